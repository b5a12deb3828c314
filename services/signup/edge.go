package signup

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// maxBody bounds a request's body, in bytes; the largest honest one is far
// below it.
const maxBody = 64 << 10

// edge is the HTTP face of the role: JSON in, JSON or a services.Problem out,
// every request counted. It is reached through the gateway only.
type edge struct {
	name     string
	tel      *telemetry.Telemetry
	timing   topology.Timing
	mux      *http.ServeMux
	requests *prometheus.CounterVec
}

// newEdge makes an edge that answers every unknown route with a problem.
func newEdge(name string, tel *telemetry.Telemetry, timing topology.Timing) *edge {
	e := &edge{
		name: name, tel: tel, timing: timing, mux: http.NewServeMux(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"}),
	}
	tel.Metrics.MustRegister(e.requests)
	e.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e.fail(w, r, "unknown", services.Errorf(services.NotFound, "%s %s is not a route of the %s API", r.Method, r.URL.Path, name))
	})
	return e
}

// handle routes a pattern of http.ServeMux. A nil answer is 204.
func (e *edge) handle(pattern string, answer func(r *http.Request) (any, error)) {
	e.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		v, err := answer(r)
		switch {
		case err != nil:
			e.fail(w, r, pattern, err)
		case v == nil:
			e.count(pattern, http.StatusNoContent)
			w.WriteHeader(http.StatusNoContent)
		default:
			e.count(pattern, http.StatusOK)
			telemetry.WriteJSON(w, http.StatusOK, v)
		}
	})
}

func (e *edge) fail(w http.ResponseWriter, r *http.Request, route string, err error) {
	p := services.ProblemOf(err)
	status := p.Kind.HTTPStatus()
	e.count(route, status)
	if status >= http.StatusInternalServerError {
		e.tel.Log.WarnContext(r.Context(), "request failed", "route", route, "status", status, "trace_id", telemetry.TraceID(r.Context()), "error", err)
	}
	telemetry.WriteJSON(w, status, p)
}

func (e *edge) count(route string, status int) {
	e.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
}

// serve answers on the listener until ctx ends, lets what is in flight finish
// within one RPC timeout and returns when every connection is closed.
func (e *edge) serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var conns sync.WaitGroup
	srv := &http.Server{
		Handler:           e.tel.Handler(e.name, e.mux),
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
func (e *edge) grace() time.Duration { return e.timing.RPCTimeout.D() / 4 }

// decode reads a JSON body. Unknown fields are let through, so that an older
// API takes what a newer client sends.
func decode[T any](r *http.Request) (T, error) {
	var v T
	d := json.NewDecoder(r.Body)
	if err := d.Decode(&v); err != nil {
		return v, badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, services.Errorf(services.Invalid, "the body goes on after its JSON object").WithReason("bad_json")
	}
	return v, nil
}

func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return services.Errorf(services.Invalid, "the body is larger than %d bytes", tooLarge.Limit).WithReason("body_too_large")
	}
	var field *json.UnmarshalTypeError
	if errors.As(err, &field) && field.Field != "" {
		return services.Errorf(services.Invalid, "%s: a JSON %s does not fit", field.Field, field.Value).WithReason("bad_json")
	}
	return services.Errorf(services.Invalid, "the body is not a JSON object: %v", err).WithReason("bad_json")
}
