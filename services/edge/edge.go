// Package edge is what every HTTP role behind the gateway shares: JSON in, in
// bodies of bounded size, JSON or a services.Problem out, the caller in the
// gateway's words, every request counted, and serving with a graceful end.
//
// It promises that a failure is answered as a problem with its kind's status,
// an unknown route too. It never checks who a caller is: the gateway does, and
// strips the headers that say so from outside, so an edge must not be
// reachable past it.
package edge

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// MaxBody bounds a request's body, in bytes; the largest honest one is far
// below it.
const MaxBody = 64 << 10

// Edge is the HTTP face of a role. Use New.
type Edge struct {
	name     string
	tel      *telemetry.Telemetry
	timing   topology.Timing
	mux      *http.ServeMux
	methods  []string // of the routes
	requests *prometheus.CounterVec
	load     load
	seconds  *prometheus.HistogramVec
}

// New makes the edge of the role of that name. It registers
// http_requests_total and http_request_seconds.
func New(name string, tel *telemetry.Telemetry, timing topology.Timing) *Edge {
	e := &Edge{
		name: name, tel: tel, timing: timing, mux: http.NewServeMux(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "http_request_seconds", Help: "Time to answer a request, by route.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 7)}, []string{"route"}),
	}
	tel.Metrics.MustRegister(e.requests, e.seconds)
	e.mux.HandleFunc("/", e.unknown)
	return e
}

// unknown answers for what is no route: a path that has one under another
// method says which.
func (e *Edge) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range e.methods {
		other := *r
		other.Method = m
		if _, pattern := e.mux.Handler(&other); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		e.fail(w, r, "unknown", services.Errorf(services.NotFound, "%s %s is not a route of the %s API", r.Method, r.URL.Path, e.name))
		return
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	e.refuse(w, r, "unknown", http.StatusMethodNotAllowed, services.Errorf(services.Invalid, "%s is not a method of %s", r.Method, r.URL.Path).WithRemedy("use %s", strings.Join(allowed, " or ")))
}

// Handle adds a route. Requests are checked by their description first; the
// answer is sent as JSON, and a nil one is 204. Each request is a scope in which
// commands may remember what they were answered. Routes are added before Serve.
func (e *Edge) Handle(o Operation, answer func(r *http.Request) (any, error)) {
	if m := o.method(); !slices.Contains(e.methods, m) {
		e.methods = append(e.methods, m)
	}
	check, seconds := newGuard(o), e.seconds.WithLabelValues(o.Pattern)
	e.mux.HandleFunc(o.Pattern, func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		answered := func() { seconds.Observe(time.Since(began).Seconds()) }
		defer func() { answered() }()
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		// Before the body is looked at: who may not ask learns nothing of it.
		if o.Member && r.Header.Get(HeaderMember) == "" {
			e.fail(w, r, o.Pattern, services.Errorf(services.Denied, "%s: no member is signed in", e.name).WithReason("no_member").WithRemedy("sign in"))
			return
		}
		if status, err := check.request(r); err != nil {
			e.refuse(w, r, o.Pattern, status, services.Wrap(o.ID, err))
			return
		}
		v, err := answer(r.WithContext(resilience.WithScope(r.Context())))
		switch {
		case err != nil:
			e.fail(w, r, o.Pattern, err)
		case v == nil:
			e.count(o.Pattern, http.StatusNoContent)
			w.WriteHeader(http.StatusNoContent)
		default:
			e.count(o.Pattern, http.StatusOK)
			switch c := v.(type) {
			case Content:
				c.write(w)
			case Stream:
				answered() // how long it is listened to is no measure of ours
				answered = func() {}
				c.serve(e, w, r)
			default:
				telemetry.WriteJSON(w, http.StatusOK, v)
			}
		}
	})
}

// fail answers with the problem of an error.
func (e *Edge) fail(w http.ResponseWriter, r *http.Request, route string, err error) {
	e.refuse(w, r, route, services.KindOf(err).HTTPStatus(), err)
}

// refuse answers with the problem of an error and a status that says more than
// its kind.
func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, route string, status int, err error) {
	e.count(route, status)
	if status >= http.StatusInternalServerError {
		e.tel.Log.WarnContext(r.Context(), "request failed", "route", route, "status", status, "trace_id", telemetry.TraceID(r.Context()), "error", err)
	}
	telemetry.WriteJSON(w, status, services.ProblemOf(err))
}

func (e *Edge) count(route string, status int) {
	e.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
}

// Serve answers on the listener until ctx ends, lets what is in flight finish
// within a quarter of the RPC timeout and returns when every connection is closed.
func (e *Edge) Serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var conns sync.WaitGroup
	srv := &http.Server{
		Handler:           e.load.handler(e.tel.Handler(e.name, e.mux)),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: e.timing.LeaseDuration.D(),
		IdleTimeout:       e.timing.MaxConnectionAge.D(),
		ErrorLog:          slog.NewLogLogger(e.tel.Log.Handler(), slog.LevelWarn),
		ConnState: func(_ net.Conn, s http.ConnState) {
			switch s {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			case http.StateActive, http.StateIdle:
			}
		},
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	var err error
	select {
	case err = <-done:
		err = services.Wrap(e.name+" serve", err)
	case <-ctx.Done():
		grace, stop := context.WithTimeout(base, e.grace())
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // it only closes sockets again
		}
		stop()
		<-done
	}
	cancel()
	_ = srv.Close()
	conns.Wait()
	return err
}

// grace is how long requests in flight may take once the instance has to end.
func (e *Edge) grace() time.Duration { return e.timing.RPCTimeout.D() / 4 }
