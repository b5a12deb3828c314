package lab

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// keepSpans bounds the spans of players that the daemon keeps.
const keepSpans = 8192

// askAtOnce bounds the instances asked side by side.
const askAtOnce = 16

var traceID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Trace implements control.Engine: it asks every instance for its spans of the
// trace and joins them with those that players handed in.
func (l *Lab) Trace(ctx context.Context, id string) (control.Trace, error) {
	if !traceID.MatchString(id) {
		return control.Trace{}, services.Errorf(services.Invalid, "trace id %q: want 32 hexadecimal digits", id).WithRemedy("take trace_id from: flix play … -o json")
	}
	i, err := l.need()
	if err != nil {
		return control.Trace{}, err
	}
	specs, err := l.specs(i)
	if err != nil {
		return control.Trace{}, err
	}
	t := control.Trace{ID: id}
	l.mu.Lock()
	for _, s := range l.spans {
		if s.TraceID == id {
			t.Spans = append(t.Spans, s)
		}
	}
	l.mu.Unlock()
	var (
		mu sync.Mutex
		g  errgroup.Group
	)
	g.SetLimit(askAtOnce)
	for _, s := range specs {
		g.Go(func() error {
			var spans []control.Span
			if err := l.admin(ctx, s, http.MethodGet, "/traces/"+id, nil, &spans); err != nil {
				return nil // an instance that is down has lost its spans
			}
			mu.Lock()
			t.Spans = append(t.Spans, spans...)
			mu.Unlock()
			return nil
		})
	}
	_ = g.Wait() // none fails
	if len(t.Spans) == 0 {
		return t, services.Errorf(services.NotFound, "no span of trace %s is kept", id).WithRemedy("spans live in a bounded ring of each instance: play again and trace that")
	}
	slices.SortFunc(t.Spans, func(a, b control.Span) int {
		if a.StartUnixNano != b.StartUnixNano {
			if a.StartUnixNano < b.StartUnixNano {
				return -1
			}
			return 1
		}
		return 0
	})
	return t, nil
}

// Record implements control.Engine.
func (l *Lab) Record(_ context.Context, e control.Event, spans []control.Span) error {
	if e.Kind != "" {
		l.log.Add(e.Kind, e.Subject, e.Text, e.Data)
	}
	l.keepSpans(spans)
	return nil
}

func (l *Lab) keepSpans(spans []control.Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans = append(l.spans, spans...)
	if n := len(l.spans); n > keepSpans {
		l.spans = append([]control.Span(nil), l.spans[n-keepSpans/2:]...)
	}
}

// Sessions implements control.Engine: what every region's pipeline saw last.
func (l *Lab) Sessions(ctx context.Context) ([]control.Session, error) {
	i, err := l.need()
	if err != nil {
		return nil, err
	}
	newest := map[string]control.Session{}
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleKeystone {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return nil, err
		}
		var got []control.Session
		var raw json.RawMessage
		if err := l.admin(ctx, s, http.MethodGet, "/sessions", nil, &raw); err != nil {
			continue // its region is down; the others still tell theirs
		}
		if err := json.Unmarshal(raw, &got); err != nil {
			return nil, err
		}
		for _, x := range got {
			if was, ok := newest[x.Session]; !ok || x.Updated.After(was.Updated) {
				newest[x.Session] = x
			}
		}
	}
	out := make([]control.Session, 0, len(newest))
	for _, x := range newest {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b control.Session) int { return b.Updated.Compare(a.Updated) })
	return out, nil
}
