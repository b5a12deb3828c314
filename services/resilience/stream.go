package resilience

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services/telemetry"
)

// Bounds of the stream, Hystrix's: how often it tells, and to how many.
const (
	streamInterval = 500 * time.Millisecond
	streamClients  = 5
	// streamLeast keeps ?delay= from making a stream a load.
	streamLeast = 50 * time.Millisecond
)

// Paths on the instance's admin endpoint.
const (
	// PathStream is an event stream for Hystrix's dashboard and Turbine. It is
	// open as /metrics is. "?delay=" sets the interval in milliseconds;
	// "?state=1" adds the key circuitBreakerState, which tells a half-open
	// breaker and which Hystrix does not write.
	PathStream = "/hystrix.stream"
	// PathCommands is a JSON array of State; it asks for the key.
	PathCommands = "/commands"
)

type streams struct{ open atomic.Int64 }

func (g *Group) registerAdmin() {
	g.tel.Admin("GET "+PathStream, false, g.stream)
	g.tel.Admin("GET "+PathCommands, true, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, g.Snapshot())
	})
}

// stream tells of every command each interval until the client goes. A ping
// comes first and beside every round, so that a client hears something also
// while there is no command.
func (g *Group) stream(w http.ResponseWriter, r *http.Request) {
	defer g.streams.open.Add(-1)
	if g.streams.open.Add(1) > streamClients {
		http.Error(w, "MaxConcurrentConnections reached: "+strconv.Itoa(streamClients), http.StatusServiceUnavailable)
		return
	}
	every := streamInterval
	if ms, err := strconv.Atoi(r.URL.Query().Get("delay")); err == nil && ms > 0 {
		every = max(streamLeast, min(time.Duration(ms)*time.Millisecond, time.Minute))
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream;charset=UTF-8")
	h.Set("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate")
	h.Set("Pragma", "no-cache")
	_ = g.tell(r.Context(), w, every, r.URL.Query().Get("state") == "1") // the client is gone: nothing to tell it
}

func (g *Group) tell(ctx context.Context, w http.ResponseWriter, every time.Duration, state bool) error {
	rc := http.NewResponseController(w)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		var b strings.Builder
		b.WriteString("ping: \n\n")
		for _, event := range g.dashboard(state) {
			b.WriteString("data: ")
			b.Write(event)
			b.WriteString("\n\n")
		}
		// A client that takes nothing is let go.
		_ = rc.SetWriteDeadline(time.Now().Add(every + 10*streamInterval)) // not every writer has deadlines
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
		if err := rc.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (g *Group) sortedCollapsers() []*collapses {
	g.mu.RLock()
	defer g.mu.RUnlock()
	out := make([]*collapses, 0, len(g.collapsers))
	for _, name := range slices.Sorted(maps.Keys(g.collapsers)) {
		out = append(out, g.collapsers[name])
	}
	return out
}
