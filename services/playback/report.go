package playback

import (
	"context"
	"crypto/rand"
	"math"
	"strconv"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/telemetry"
)

// Kinds of report.
const (
	kindStart    = "start"
	kindProgress = "progress"
	kindStop     = "stop"
	kindError    = "error"
)

// Report implements playbackpb.PlaybackServer. A report counts as taken once
// the pipeline has its event; the session's row is renewed on the way, and if
// that fails the row merely lapses early.
func (s *Server) Report(ctx context.Context, r *playbackpb.ReportRequest) (*playbackpb.ReportReply, error) {
	if err := validReport(r); err != nil {
		return nil, err
	}
	id := eventID(r)
	if s.seen.Has(id) {
		return &playbackpb.ReportReply{}, nil
	}
	if _, err := s.sendEvent.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.d.Events.Send(ctx, events.TopicPlayback, r.GetSessionId(), s.event(ctx, id, r))
	}); err != nil {
		return nil, services.Wrap("playback.Report "+r.GetSessionId(), err)
	}
	s.seen.Add(id)
	if err := s.follow(ctx, r); err != nil {
		s.d.Tel.Log.WarnContext(ctx, "session row not kept", "session", r.GetSessionId(), "kind", r.GetKind(), "error", err)
	}
	return &playbackpb.ReportReply{}, nil
}

// follow brings the session's row in line with the report.
func (s *Server) follow(ctx context.Context, r *playbackpb.ReportRequest) error {
	ended := r.GetMemberId() + "/" + r.GetSessionId() + "/ended"
	switch {
	case r.GetKind() == kindStop:
		s.seen.Add(ended)
		return s.close(ctx, r.GetMemberId(), r.GetSessionId())
	case s.seen.Has(ended): // a straggler must not bring the row back
		return nil
	}
	return s.renew(ctx, r.GetMemberId(), r.GetSessionId(), session{Title: r.GetTitleId(), Device: r.GetDevice(), PositionS: r.GetPositionS()})
}

func (s *Server) event(ctx context.Context, id string, r *playbackpb.ReportRequest) events.PlaybackEvent {
	return events.PlaybackEvent{
		Header: events.Header{
			ID: id, At: time.Now().UTC(), Region: s.d.Region, Instance: s.d.Instance, TraceID: telemetry.TraceID(ctx),
		},
		Kind: r.GetKind(), Session: r.GetSessionId(), Sequence: r.GetSequence(), Member: r.GetMemberId(),
		Title: r.GetTitleId(), PositionS: r.GetPositionS(), Appliance: r.GetAppliance(), Bytes: r.GetBytes(),
		Rung: r.GetRung(), RebufferS: r.GetRebufferS(), Error: r.GetError(), ClientIP: r.GetClientIp(),
		ISP: r.GetIsp(), Device: r.GetDevice(), Country: r.GetCountry(),
	}
}

// eventID is the same for the same report, whichever instance takes it:
// consumers drop what this instance's memory lets slip through. The member is
// part of it: nobody's report stands for that of a session of somebody else. A
// report without a number is no repetition that anybody could tell: a stop would
// be taken for the start before it otherwise, and be lost.
func eventID(r *playbackpb.ReportRequest) string {
	of := r.GetMemberId() + "/" + r.GetSessionId() + "/"
	if r.GetSequence() == 0 {
		return of + "0/" + rand.Text()
	}
	return of + strconv.FormatUint(r.GetSequence(), 10)
}

func validReport(r *playbackpb.ReportRequest) error {
	bad := func(format string, args ...any) error {
		e := services.Errorf(services.Invalid, format, args...)
		e.Op = "playback.Report"
		return e
	}
	if err := validSession(r.GetSessionId()); err != nil {
		return services.Wrap("playback.Report", err)
	}
	finite := func(v float64) bool { return v >= 0 && !math.IsInf(v, 1) } // false for NaN
	switch {
	case r.GetSessionId() == "" || r.GetMemberId() == "" || r.GetTitleId() == "":
		return bad("session_id, member_id and title_id are needed")
	case !finite(r.GetPositionS()):
		return bad("position_s: %v is not a position", r.GetPositionS())
	case !finite(r.GetRebufferS()):
		return bad("rebuffer_s: %v is not a duration", r.GetRebufferS())
	}
	switch r.GetKind() {
	case kindStart, kindProgress, kindStop, kindError:
		return nil
	}
	return bad("kind: %q is not start, progress, stop or error", r.GetKind())
}
