package playback

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/playback/playbackpb"
	"github.com/flix-lab/flix/services/sqldb"
)

// sessionReports is how many progress reports may be lost before a session's
// row lapses and no longer counts as a stream.
const sessionReports = 3

// session is the value of a row of kv.Sessions.
type session struct {
	Title     string    `json:"title"`
	Device    string    `json:"device,omitempty"`
	Region    string    `json:"region"`
	PositionS float64   `json:"position_s"`
	At        time.Time `json:"at"`
}

const (
	// gate is the row of a member's partition that every opening changes: an
	// opening is written only if no other was since it counted. It sorts before
	// every session, so that no page is without it.
	gate = "\x00opening"
	// maxOpenings is how often an opening counts anew because others came
	// between.
	maxOpenings = 16
	// maxCounted is the most rows that one query returns. A plan that allows as
	// many streams has no limit that anybody meets.
	maxCounted = 1000
)

// validSession refuses an id that could be taken for the gate.
func validSession(id string) error {
	if strings.HasPrefix(id, "\x00") {
		return services.Errorf(services.Invalid, "session_id: %q begins with a zero byte", id).WithRemedy("make it of letters and digits")
	}
	return nil
}

// open counts the household's other streams and writes the session's row.
//
// Inside a region the count is exact, however many sessions open at once: each
// is written on the condition that none was meanwhile. Another region's rows
// come by replication; a stream too many for as long as a member plays through
// two regions is better than a play that waits for the other one. The count
// itself is never guessed: with the store out of reach there is no permission.
func (s *Server) open(ctx context.Context, r *playbackpb.AuthorizeRequest, plan sqldb.Plan) error {
	row := session{Title: r.GetTitleId(), Device: r.GetDevice()}
	if plan.MaxStreams >= maxCounted {
		return s.renew(ctx, r.GetMemberId(), r.GetSessionId(), row)
	}
	item, err := s.row(r.GetSessionId(), row)
	if err != nil {
		return err
	}
	for range maxOpenings {
		was, others, err := s.count(ctx, r, plan)
		if err != nil {
			return err
		}
		if others >= plan.MaxStreams {
			return services.Errorf(services.Denied, "the plan %q allows %d streams at once, and %d are open", plan.Name, plan.MaxStreams, others).
				WithReason(services.ReasonPlanStreams).
				WithRemedy("stop another stream; one that was cut off is freed after %s", s.sessionTTL())
		}
		_, err = s.saveSession.Do(ctx, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, s.d.KV.PutIf(ctx, kv.Sessions, r.GetMemberId(), was, item, kv.Item{Sort: gate, Value: []byte(rand.Text()), TTL: s.sessionTTL()})
		})
		if services.KindOf(err) != services.Conflict {
			return err
		}
	}
	return services.Errorf(services.Unavailable, "more than %d streams of the member open at once", maxOpenings).WithRemedy("try again in a moment")
}

// count returns how many other streams the household has, and the condition that
// no other was opened since.
func (s *Server) count(ctx context.Context, r *playbackpb.AuthorizeRequest, plan sqldb.Plan) (same kv.Condition, others int, err error) {
	items, err := s.listSessions.Do(ctx, func(ctx context.Context) ([]kv.Item, error) {
		// One more than allowed is enough to know; beside it there may be our own
		// and the gate.
		items, _, err := s.d.KV.Query(ctx, kv.Sessions, r.GetMemberId(), kv.Range{Limit: min(plan.MaxStreams+2, maxCounted)})
		return items, err
	})
	same = kv.Condition{Sort: gate, Absent: true}
	for _, it := range items {
		switch it.Sort {
		case r.GetSessionId():
		case gate:
			same = kv.Condition{Sort: gate, Equals: it.Value}
		default:
			others++
		}
	}
	return same, others, err
}

func (s *Server) sessionTTL() time.Duration { return sessionReports * s.d.Timing.ProgressReport.D() }

func (s *Server) renew(ctx context.Context, member, id string, row session) error {
	item, err := s.row(id, row)
	if err != nil {
		return err
	}
	_, err = s.saveSession.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.d.KV.Put(ctx, kv.Sessions, member, item)
	})
	return err
}

// row is a session as the store has it.
func (s *Server) row(id string, row session) (kv.Item, error) {
	row.Region, row.At = s.d.Region, time.Now().UTC()
	b, err := json.Marshal(row)
	if err != nil {
		return kv.Item{}, services.Errorf(services.Invalid, "session: %v", err) // a position that is no number
	}
	return kv.Item{Sort: id, Value: b, TTL: s.sessionTTL()}, nil
}

func (s *Server) close(ctx context.Context, member, id string) error {
	_, err := s.saveSession.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.d.KV.Delete(ctx, kv.Sessions, member, id)
	})
	return err
}
