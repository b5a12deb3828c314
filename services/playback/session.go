package playback

import (
	"context"
	"encoding/json"
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

// open counts the household's other streams and writes the session's row.
//
// The count is not exact: two sessions that open at once may both pass, and
// another region's rows come by replication. A stream too many for some
// seconds is better than a play that waits for other regions; billing, which
// must be exact, does not hang on it. The count itself is never guessed: with
// the store out of reach there is no permission.
func (s *Server) open(ctx context.Context, r *playbackpb.AuthorizeRequest, plan sqldb.Plan) error {
	items, err := s.listSessions.Do(ctx, func(ctx context.Context) ([]kv.Item, error) {
		// One more than allowed is enough to know, and one may be our own.
		items, _, err := s.d.KV.Query(ctx, kv.Sessions, r.GetMemberId(), kv.Range{Limit: min(plan.MaxStreams+1, 1000)})
		return items, err
	})
	if err != nil {
		return err
	}
	others := 0
	for _, it := range items {
		if it.Sort != r.GetSessionId() {
			others++
		}
	}
	if others >= plan.MaxStreams {
		return services.Errorf(services.Denied, "the plan %q allows %d streams at once, and %d are open", plan.Name, plan.MaxStreams, others).
			WithReason(services.ReasonPlanStreams).
			WithRemedy("stop another stream; one that was cut off is freed after %s", s.sessionTTL())
	}
	return s.renew(ctx, r.GetMemberId(), r.GetSessionId(), session{Title: r.GetTitleId(), Device: r.GetDevice()})
}

func (s *Server) sessionTTL() time.Duration { return sessionReports * s.d.Timing.ProgressReport.D() }

func (s *Server) renew(ctx context.Context, member, id string, row session) error {
	row.Region, row.At = s.d.Region, time.Now().UTC()
	b, err := json.Marshal(row)
	if err != nil {
		return services.Errorf(services.Invalid, "session: %v", err) // a position that is no number
	}
	_, err = s.saveSession.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.d.KV.Put(ctx, kv.Sessions, member, kv.Item{Sort: id, Value: b, TTL: s.sessionTTL()})
	})
	return err
}

func (s *Server) close(ctx context.Context, member, id string) error {
	_, err := s.saveSession.Do(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.d.KV.Delete(ctx, kv.Sessions, member, id)
	})
	return err
}
