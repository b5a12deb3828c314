package play

import (
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/token"
)

// Files below PathStock and a token.
const (
	fileDASH     = "manifest.mpd"
	fileHLS      = "master.m3u8"
	fileSteering = "steering.json"
	fileEvents   = "steering.events"
)

// Media types of the manifests (ISO/IEC 23009-1, annex C; RFC 8216, 10).
const (
	typeDASH = "application/dash+xml"
	typeHLS  = "application/vnd.apple.mpegurl"
	// typeEvents is that of HTML, 9.2.
	typeEvents = "text/event-stream"
)

// How a manifest names the appliances.
const (
	hostsName    = "name"    // oca-1-SITE.localhost, which browsers know to be here
	hostsAddress = "address" // 127.0.0.1, for everybody else
)

// How a DASH manifest leads to segments.
const (
	segmentsList  = "list"
	segmentsIndex = "index"
)

// stock is what the play API keeps for stock players.
type stock struct {
	indexes *indexes
	served  *prometheus.CounterVec
	// followers are told of changes.
	followers followers
}

func newStock(d Deps, read *resilience.Command[media.Index]) *stock {
	k := &stock{
		indexes: newIndexes(d, read),
		served:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "play_stock_answers_total", Help: "Manifests and steering orders for stock players, by file and whether the order moved the player."}, []string{"file", "moved"}),
	}
	d.Tel.Metrics.MustRegister(k.served, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "play_stock_followers", Help: "Stock players that are told when their order changes."}, func() float64 { return float64(k.followers.count()) }))
	return k
}

// tokenForm is that of package token.
const tokenForm = `^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`

func stockOperation(file, id, summary, produces string, params ...edge.Param) edge.Operation {
	one, most := 1, 4096
	o := edge.Operation{Pattern: "GET " + PathStock + "{token}/" + file, ID: id, Summary: summary, Fails: []services.Kind{services.Denied, services.NotFound}, Params: append([]edge.Param{
		{Name: "token", In: "path", Required: true, Doc: "of the answer that started the play", Schema: edge.Schema{Type: "string", MinLength: &one, MaxLength: &most, Pattern: tokenForm}},
	}, params...)}
	if produces == "application/json" {
		o.Reply = SteeringManifest{}
	} else {
		o.Produces = produces
	}
	return o
}

func hostsParam() edge.Param {
	return edge.Param{Name: "hosts", In: "query", Doc: "how appliances are named; by name for browsers, which resolve names under localhost by themselves, else by address", Schema: edge.Schema{Type: "string", Enum: []string{hostsName, hostsAddress}}}
}

func segmentsParam() edge.Param {
	return edge.Param{Name: "segments", In: "query", Doc: "how the segments are found: listed one by one, which follows the order of the appliances best; or by the files' own index, for tools that do not understand lists of ranges, as yt-dlp", Schema: edge.Schema{Type: "string", Enum: []string{segmentsList, segmentsIndex}}}
}

func baseParam() edge.Param {
	return edge.Param{Name: "base", In: "query", Doc: "how the client reaches this API, such as https://api.example:8443, for players that take the steering server's address to be relative to their page, as dash.js does, and not to the manifest; a page of another origin is given what it came by without it", Schema: edge.Schema{Type: "string", Pattern: `^https?://[A-Za-z0-9.:\[\]_-]+$`}}
}

// steeringServer is where a DASH player asks for its order: beside the manifest,
// or in full for pages that are of another origin than the API.
func steeringServer(r *http.Request, file string) string {
	base := r.URL.Query().Get("base")
	if base == "" {
		host, origin := r.Header.Get("X-Forwarded-Host"), r.Header.Get("Origin")
		if origin == "" || host == "" {
			return file
		}
		if base = r.Header.Get("X-Forwarded-Proto") + "://" + host; base == origin {
			return file
		}
	}
	return base + path.Dir(r.URL.Path) + "/" + file
}

// pathway is an appliance's name in manifests.
func pathway(appliance string) string { return strings.ReplaceAll(appliance, "/", ".") }

// stockPaths signs the paths of one play's manifests.
func (s *Server) stockPaths(p play, trace string, height int) Stock {
	c := token.Claims{Title: p.title, Client: p.ClientIP, Session: p.session, Trace: trace, Country: p.Country, MaxHeight: height}
	base := PathStock + s.d.Key.Sign(token.Stock, c, time.Now(), s.d.Timing.URLExpiry.D()) + "/"
	return Stock{DASH: base + fileDASH, HLS: base + fileHLS, Steering: base + fileSteering, Events: base + fileEvents}
}

// follower is the play that a stock player's token stands for.
func (s *Server) follower(r *http.Request) (play, token.Claims, error) {
	c, err := s.d.Key.Verify(token.Stock, r.PathValue("token"), time.Now())
	if err != nil {
		return play{}, c, services.Wrap("stock", err)
	}
	// The appliances' URLs are for the client that the token was made for, not
	// for whoever asks: who holds the token may play anyway.
	caller := edge.Caller{ClientIP: c.Client, Country: c.Country, ISP: edge.CallerOf(r).ISP}
	return play{Caller: caller, session: c.Session, title: c.Title}, c, nil
}

// steered is what a manifest is made of.
type steered struct {
	index    media.Index
	steering media.Steering
	// hosts is how the appliances are named.
	hosts string
	// wait is how long the player's questions may wait, in seconds; "" is not.
	wait string
}

// steeredTitle gathers the index, as far as the plan goes, and the appliances
// that a stock player can reach, best first.
func (s *Server) steeredTitle(r *http.Request) (out steered, err error) {
	ctx := r.Context()
	p, claims, err := s.follower(r)
	if err != nil {
		return out, err
	}
	profiles, err := s.getProfiles(ctx, p)
	if err != nil {
		return out, err
	}
	rank, _, err := s.getRank(ctx, p)
	if err != nil {
		return out, err
	}
	reachable := plain(rank.GetCandidates())
	if len(reachable) == 0 {
		return out, services.Errorf(services.NotFound, "no appliance that holds %s serves without TLS", p.title).WithReason(services.ReasonNoReplica).WithRemedy("flix lab up brings the appliances up to date")
	}
	pr := profiles.Value
	index, err := s.stock.indexes.get(ctx, p.title, pr, rank.GetCandidates())
	if err != nil {
		return out, err
	}
	allowed := map[string]bool{}
	for _, st := range streams(pr.GetProfiles(), claims.MaxHeight) {
		allowed[st.Path] = true
	}
	out.index = index.Only(func(t media.Track) bool { return allowed[t.Path] })
	out.hosts, out.wait = hostsFor(r), r.URL.Query().Get("wait")
	for _, a := range s.appliances(play{Caller: p.Caller, session: p.session, title: p.title}, pr.GetVersion(), claims.Trace, reachable) {
		out.steering.Pathways = append(out.steering.Pathways, media.Pathway{ID: a.Pathway, URL: named(a.PlainURL, out.hosts)})
	}
	return out, nil
}

// hostsFor says how to name appliances to a client: a browser resolves names
// under localhost by itself, and says with every request where it comes from
// (Fetch Metadata); other clients ask a resolver that need not know them. Some of
// those copy a browser's other fields, yt-dlp its Sec-Fetch-Mode.
func hostsFor(r *http.Request) string {
	switch asked := r.URL.Query().Get("hosts"); {
	case asked == hostsName || asked == hostsAddress:
		return asked
	case r.Header.Get("Sec-Fetch-Site") != "":
		return hostsName
	}
	return hostsAddress
}

// named is an appliance's URL with its host named so.
func named(base, hosts string) string {
	if hosts == hostsName {
		return base
	}
	return byAddress(base)
}

// byAddress replaces a name under localhost by what it means.
func byAddress(base string) string {
	u, err := url.Parse(base)
	if err != nil || !strings.HasSuffix(u.Hostname(), ".localhost") {
		return base
	}
	u.Host = "127.0.0.1:" + u.Port()
	return u.String()
}

func (s *Server) dash(r *http.Request) (any, error) {
	t, err := s.steeredTitle(r)
	if err != nil {
		return nil, err
	}
	t.steering.Server = steeringServer(r, steeringFile(formatDASH, t))
	t.steering.Indexed = r.URL.Query().Get("segments") == segmentsIndex
	s.stock.served.WithLabelValues(fileDASH, "").Inc()
	return edge.Content{Type: typeDASH, Body: t.index.SteeredDASH(t.steering), Any: true}, nil
}

func (s *Server) hls(r *http.Request) (any, error) {
	t, err := s.steeredTitle(r)
	if err != nil {
		return nil, err
	}
	t.steering.Server = steeringFile(formatHLS, t)
	s.stock.served.WithLabelValues(fileHLS, "").Inc()
	return edge.Content{Type: typeHLS, Body: t.index.SteeredHLS(t.steering), Any: true}, nil
}

// versionOf is the version of a title that its profiles are of.
func versionOf(pr *playbackpb.ProfilesReply) string {
	return strconv.FormatUint(pr.GetVersion(), 10)
}
