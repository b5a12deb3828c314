package gateway

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services/telemetry"
)

// EdgeReport says what this gateway did for clients since it started; the
// evacuation reads it to see whether any still come.
type EdgeReport struct {
	// ClientRequests were answered to clients themselves (not to another
	// region's gateway), those passed on to a saver included.
	ClientRequests int64 `json:"client_requests"`
	// LastClientRequest is when the last one was answered, in milliseconds
	// of Unix time; 0 if there was none.
	LastClientRequest int64 `json:"last_client_request_unix_ms"`
	// ProxiedOut were passed on to another region, ProxiedIn came from one.
	ProxiedOut int64 `json:"proxied_out"`
	ProxiedIn  int64 `json:"proxied_in"`
	// InFlight are under way.
	InFlight int `json:"inflight"`
	// Answered counts all requests, BusySeconds the time spent on them,
	// Concurrency is how many may be under way to one API: what a capacity
	// estimate by Little's law needs.
	Answered int64 `json:"answered"`
	// Failed are those of Answered that ended with a status of 5xx.
	Failed      int64   `json:"failed"`
	BusySeconds float64 `json:"busy_seconds"`
	// Plays are the clients' own requests to begin a play, PlaysFailed those of
	// them that ended with a status of 5xx.
	Plays       int64 `json:"plays"`
	PlaysFailed int64 `json:"plays_failed"`
	Concurrency int64 `json:"concurrency"`
}

type edgeCounts struct {
	client, last, proxiedOut, proxiedIn atomic.Int64
	all, failed, busyNanos              atomic.Int64
	plays, playsFailed                  atomic.Int64
}

// began counts the answer to a client that asked for a play to begin.
func (e *edgeCounts) began(status int) {
	e.plays.Add(1)
	if status >= http.StatusInternalServerError {
		e.playsFailed.Add(1)
	}
}

func (e *edgeCounts) answered(proxiedIn bool, status int, at time.Time, took time.Duration) {
	if status >= http.StatusInternalServerError {
		e.failed.Add(1)
	}
	e.all.Add(1)
	e.busyNanos.Add(int64(took))
	if proxiedIn {
		e.proxiedIn.Add(1)
		return
	}
	e.last.Store(at.UnixMilli()) // before the count: who sees that knows when
	e.client.Add(1)
}

// Edge reports what this gateway did for clients.
func (s *Server) Edge() EdgeReport {
	return EdgeReport{
		ClientRequests: s.edge.client.Load(), LastClientRequest: s.edge.last.Load(),
		ProxiedOut: s.edge.proxiedOut.Load(), ProxiedIn: s.edge.proxiedIn.Load(),
		InFlight: s.gate.count(),
		Answered: s.edge.all.Load(), Failed: s.edge.failed.Load(), BusySeconds: time.Duration(s.edge.busyNanos.Load()).Seconds(), Concurrency: s.settings.concurrency.Load(),
		Plays: s.edge.plays.Load(), PlaysFailed: s.edge.playsFailed.Load(),
	}
}

// RegisterAdmin adds the gateway's admin endpoints:
//
//	GET /edge      EdgeReport
//	GET /origins   []OriginStatus
//	GET /routes    TableReport
//	GET /filters   array of FilterStatus
//	GET /squeeze   SqueezeReport
func (s *Server) RegisterAdmin(mux *http.ServeMux, key string) {
	mux.Handle("GET /origins", telemetry.Guard(key, s.adminOrigins))
	mux.Handle("GET /edge", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.Edge())
	}))
	mux.Handle("GET /routes", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.Routes())
	}))
	mux.Handle("GET /filters", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.Filters())
	}))
	mux.Handle("GET /squeeze", telemetry.Guard(key, func(w http.ResponseWriter, _ *http.Request) {
		telemetry.WriteJSON(w, http.StatusOK, s.Squeezed())
	}))
}
