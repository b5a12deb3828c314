package play

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/license/licensepb"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
)

const (
	// maxAppliances in an answer, as the paper has it.
	maxAppliances = 10
	// maxBroken appliances a client may name, and maxID the length of a name.
	maxBroken, maxID = 64, 128
	// maxHeight is more lines than any video has.
	maxHeight = 1 << 16
)

// play is a request to stream, at its start or anew.
type play struct {
	edge.Caller
	session, title, device string
	height                 int
	broken                 []string
	// renews a licence: one that was released refuses before the play is
	// authorised, which would count it as a stream again.
	renews bool
	// license gets the licence; of a play that starts once it is authorised.
	license func(ctx context.Context, maxHeight uint32) (*licensepb.IssueReply, error)
}

// parts are the microservices' answers, each with its failure.
type parts struct {
	auth     *playbackpb.AuthorizeReply
	license  *licensepb.IssueReply
	profiles evcache.Copy[*playbackpb.ProfilesReply]
	rank     *steeringpb.RankReply
	position float64
	// late: the bookmark could not be read, and the play begins at the start.
	late bool
	// rankStale: steering was out of reach, and the ranking is an earlier one.
	rankStale bool

	authErr, licenseErr, profilesErr, rankErr error
}

// start implements PathStart. The same session again is the same play: its
// row is rewritten, and its new licence is bound to the same session.
func (s *Server) start(r *http.Request, c edge.Caller) (any, error) {
	req, err := edge.Decode[StartRequest](r)
	if err != nil {
		return nil, err
	}
	p := play{Caller: c, session: req.Session, title: req.Title, device: cmp.Or(req.Device, c.Device), height: req.Height}
	p.license = func(ctx context.Context, maxHeight uint32) (*licensepb.IssueReply, error) {
		return s.d.License.Issue(ctx, &licensepb.IssueRequest{
			SessionId: p.session, MemberId: c.Member, TitleId: p.title, Device: p.device, Country: c.Country, MaxHeight: maxHeight,
		})
	}
	return s.answer(r.Context(), "start", p)
}

// renew implements PathRenew: other appliances and a fresh licence for a play
// under way. The play is authorised anew, so that what has ended in between (a
// membership, a title's licensing) ends the play too.
func (s *Server) renew(r *http.Request, c edge.Caller) (any, error) {
	req, err := edge.Decode[RenewRequest](r)
	if err != nil {
		return nil, err
	}
	claims, err := s.d.Key.Verify(token.License, req.License, time.Now())
	if err != nil {
		return nil, services.Wrap("renew", err)
	}
	if claims.Session != req.Session || claims.Member != c.Member || claims.Title != req.Title {
		return nil, services.Errorf(services.Denied, "renew: the licence is for another play").WithReason("license_binding").WithRemedy("start the play again")
	}
	if claims.Country != c.Country {
		return nil, services.Errorf(services.Denied, "renew: the licence is for %s, and the client is in %s", claims.Country, c.Country).WithReason("license_binding").WithRemedy("start the play again")
	}
	if device := cmp.Or(req.Device, c.Device); claims.Device != device {
		return nil, services.Errorf(services.Denied, "renew: the licence is for the device %q, not %q", claims.Device, device).WithReason("license_binding").WithRemedy("renew on the device that started the play, or start the play again")
	}
	p := play{Caller: c, session: req.Session, title: req.Title, device: claims.Device, broken: req.Broken, renews: true}
	p.license = func(ctx context.Context, _ uint32) (*licensepb.IssueReply, error) {
		return s.d.License.Renew(ctx, &licensepb.RenewRequest{License: req.License, SessionId: req.Session})
	}
	return s.answer(r.Context(), "renew", p)
}

func (s *Server) answer(ctx context.Context, op string, p play) (*StartReply, error) {
	err := p.validate()
	var got parts
	if err == nil {
		got = s.gather(ctx, p)
		err = got.err()
	}
	if err != nil {
		s.starts.WithLabelValues(cmp.Or(services.ReasonOf(err), string(services.KindOf(err)))).Inc()
		return nil, services.Wrap(op+" "+p.title, err)
	}
	s.starts.WithLabelValues("ok").Inc()
	return s.reply(ctx, p, got), nil
}

func (p play) validate() error {
	for _, f := range []struct{ name, value string }{{"session_id", p.session}, {"title_id", p.title}, {"device", p.device}} {
		if f.value == "" || len(f.value) > maxID {
			return services.Errorf(services.Invalid, "%s: 1 to %d bytes are needed", f.name, maxID)
		}
	}
	if p.height < 0 || p.height > maxHeight {
		return services.Errorf(services.Invalid, "height: %d is not a number of lines", p.height)
	}
	if len(p.broken) > maxBroken {
		return services.Errorf(services.Invalid, "broken: more than %d appliances", maxBroken)
	}
	for _, b := range p.broken {
		if len(b) > maxID {
			return services.Errorf(services.Invalid, "broken: a name longer than %d bytes", maxID)
		}
	}
	// Appliance URLs are signed for this address: without it they would be
	// good for anybody.
	if _, err := netip.ParseAddr(p.ClientIP); err != nil {
		return services.Errorf(services.Invalid, "%s: %q is not an address", edge.HeaderClientIP, p.ClientIP).WithRemedy("come through the gateway")
	}
	return nil
}

// gather calls the microservices, at once where one does not need another: a new
// licence waits for the permission, the permission for a renewed one, and nothing
// else waits. A refused permission ends the other calls; any other failure lets the
// permission be heard first, because its reason is the one a person can act on.
func (s *Server) gather(ctx context.Context, p play) parts {
	var got parts
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g sync.WaitGroup
	g.Go(func() { got.profiles, got.profilesErr = s.getProfiles(ctx, p) })
	g.Go(func() { got.rank, got.rankStale, got.rankErr = s.getRank(ctx, p) })
	g.Go(func() { got.position, got.late = s.getPosition(ctx, p) })
	issue := func(maxHeight uint32) {
		got.license, got.licenseErr = s.license.Do(ctx, func(ctx context.Context) (*licensepb.IssueReply, error) { return p.license(ctx, maxHeight) })
	}
	if p.renews {
		if issue(0); services.KindOf(got.licenseErr) == services.Denied {
			g.Wait()
			return got
		}
	}
	got.auth, got.authErr = s.authorize.Do(ctx, func(ctx context.Context) (*playbackpb.AuthorizeReply, error) {
		return s.d.Playback.Authorize(ctx, &playbackpb.AuthorizeRequest{
			SessionId: p.session, MemberId: p.Member, Plan: p.Plan, TitleId: p.title,
			Device: p.device, Country: p.Country, WantHeight: uint32(p.height),
		})
	})
	switch {
	case got.authErr != nil:
		cancel()
	case !p.renews:
		issue(got.auth.GetMaxHeight())
	}
	g.Wait()
	return got
}

// err is the failure that tells most: permission, files, appliances, licence.
// After a permission the session's row stays until it lapses; the same session
// may try again at once, for its own row never counts against it.
func (p *parts) err() error {
	return cmp.Or(p.authErr, p.profilesErr, p.rankErr, p.licenseErr)
}

func (s *Server) getProfiles(ctx context.Context, p play) (evcache.Copy[*playbackpb.ProfilesReply], error) {
	return s.profiles.Read(ctx, profilesKey(p.title), func(ctx context.Context) (*playbackpb.ProfilesReply, error) {
		return s.d.Playback.Profiles(ctx, &playbackpb.ProfilesRequest{TitleId: p.title})
	})
}

// getRank asks steering, a second time beside the first when that is slow. With
// steering out of reach the ranking that a viewer of the same ISP got last is
// better than no play: the client probes appliances itself and drops what is
// gone.
func (s *Server) getRank(ctx context.Context, p play) (r *steeringpb.RankReply, stale bool, err error) {
	of := rankKey{p.ISP, p.Country, p.title}
	r, err = s.rank.DoHedged(ctx,
		func(ctx context.Context) (*steeringpb.RankReply, error) {
			return s.d.Steering.Rank(ctx, &steeringpb.RankRequest{ClientIp: p.ClientIP, TitleId: p.title, Max: maxAppliances, Exclude: p.broken})
		},
		func(_ context.Context, cause error) (*steeringpb.RankReply, error) {
			kept := s.ranks.without(of, p.broken)
			if kept == nil {
				return nil, cause
			}
			stale = true
			return kept, nil
		})
	if err == nil && !stale && len(p.broken) == 0 {
		s.ranks.keep(of, r)
	}
	return r, stale, err
}

// getPosition says where the member left off. A position that cannot be read
// is the start, and the answer says that it is stale.
func (s *Server) getPosition(ctx context.Context, p play) (position float64, late bool) {
	b, err := s.bookmark.DoHedged(ctx,
		func(ctx context.Context) (*playbackpb.BookmarkReply, error) {
			return s.d.Playback.Bookmark(ctx, &playbackpb.BookmarkRequest{MemberId: p.Member, TitleId: p.title})
		},
		func(context.Context, error) (*playbackpb.BookmarkReply, error) {
			late = true
			return &playbackpb.BookmarkReply{}, nil
		})
	if err != nil { // an answer, such as Invalid: there is no bookmark to be had
		s.d.Tel.Log.DebugContext(ctx, "no bookmark", "title", p.title, "error", err)
		return 0, true
	}
	return b.GetPositionS(), late
}

// reply puts the parts together.
func (s *Server) reply(ctx context.Context, p play, got parts) *StartReply {
	pr := got.profiles.Value
	trace := telemetry.TraceID(ctx)
	return &StartReply{
		Session: p.session, Title: p.title, Name: got.auth.GetTitleName(), Version: pr.GetVersion(),
		License: got.license.GetLicense(), LicenseExpires: time.UnixMilli(got.license.GetExpiresUnixMs()).UTC(),
		DurationMS: pr.GetDurationMs(), PositionS: resume(got.position, pr.GetDurationMs()),
		MaxHeight: int(got.auth.GetMaxHeight()), Streams: streams(pr.GetProfiles(), int(got.auth.GetMaxHeight())),
		IndexPath: pr.GetIndexPath(), IndexSHA256: pr.GetIndexSha256(), DASHPath: pr.GetDashPath(), HLSPath: pr.GetHlsPath(),
		Stock:      s.stockPaths(p, trace, int(got.auth.GetMaxHeight())),
		Appliances: s.appliances(p, pr.GetVersion(), trace, got.rank.GetCandidates()),
		Region:     s.d.Region, Country: p.Country, TraceID: trace,
		Stale: got.auth.GetStale() || got.profiles.Stale || pr.GetStale() || got.late || got.rankStale,
	}
}
