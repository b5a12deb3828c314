// Package host runs instances as supervised units of one process, each with
// listeners of its own, and answers a runtime over HTTP: which instances to
// start, stop and kill, and how the world looks. Both runtimes use it: the
// embedded one over a unix socket with a region's instances in a host, the
// containers one over TCP with one instance, or a zone's, in a container.
//
// A unit that fails is started again with a growing pause; a panic of one unit
// never takes the others along.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

// ErrKilled is the cause of the context of a unit that is killed: it must not
// say goodbye to anybody.
var ErrKilled = errors.New("the instance was killed")

// Factory builds the units of a host. Its methods are called from several
// goroutines.
type Factory interface {
	// SetWorld is called before the first Build and on every change.
	SetWorld(w runtime.World) error
	// Build makes the unit of a spec on bound listeners, which it owns from
	// then on, also when it fails.
	Build(spec runtime.Spec, ls Listeners) (services.Unit, error)
	// Close ends what the units shared.
	Close(ctx context.Context) error
}

// Host runs units in this process.
type Host struct {
	name    string
	factory Factory
	log     *slog.Logger

	mu    sync.Mutex
	world runtime.World
	units map[string]*running
	// starts holds a lock for each instance that was ever started.
	starts map[string]*sync.Mutex
	// held are the instances that faults keep down, and their specs.
	held map[string]*holding
	// frozen are the instances whose sockets are stopped.
	frozen map[string]bool

	// enforcing serialises changes of what faults do here; lapse is when it is
	// looked at again by itself, and ended says that it never will be.
	enforcing sync.Mutex
	lapse     *time.Timer
	ended     bool

	quit context.CancelCauseFunc
}

type running struct {
	spec     runtime.Spec
	cancel   context.CancelCauseFunc
	done     chan struct{}
	sockets  *sockets
	started  time.Time
	state    runtime.State
	err      error
	restarts int
}

// New returns a host that runs the units its factory builds. quit is called
// when the runtime tells the host to end.
func New(name string, f Factory, log *slog.Logger) *Host {
	return &Host{name: name, factory: f, log: log, units: map[string]*running{}, starts: map[string]*sync.Mutex{}, held: map[string]*holding{}, quit: func(error) {}}
}

// Serve answers the runtime on l until ctx ends, the runtime tells the host to
// quit, or serving fails; then it ends its units in order. wrap, if not nil,
// stands before the host's own answers: it may refuse a request.
func (h *Host) Serve(ctx context.Context, l net.Listener, wrap func(http.Handler) http.Handler) error {
	ctx, quit := context.WithCancelCause(ctx)
	defer quit(nil)
	h.quit = quit
	var handler http.Handler = h.mux()
	if wrap != nil {
		handler = wrap(handler)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	h.log.Info("host is up", "host", h.name, "pid", os.Getpid())
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	h.disarm()
	h.stopAll(context.WithoutCancel(ctx))
	_ = srv.Close()
	return err
}

func (h *Host) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /instances", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, h.list()) })
	mux.HandleFunc("PUT /world", handle(func(_ context.Context, world runtime.World) error { return h.setWorld(world) }))
	mux.HandleFunc("POST /start", handle(h.start))
	mux.HandleFunc("POST /stop", handle(func(ctx context.Context, r StopRequest) error { return h.end(ctx, r.IDs, r.Grace) }))
	mux.HandleFunc("POST /kill", handle(func(_ context.Context, r StopRequest) error { return h.kill(r.IDs) }))
	mux.HandleFunc("POST /forget", handle(func(_ context.Context, r StopRequest) error { return h.forget(r.IDs) }))
	mux.HandleFunc("POST /quit", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent); h.quit(nil) })
	return mux
}

// StopRequest is the body of POST /stop, /kill and /forget.
type StopRequest struct {
	IDs   []string      `json:"ids"`
	Grace time.Duration `json:"grace"`
}

func handle[T any](f func(context.Context, T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req T
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := f(r.Context(), req); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller is gone: nothing to tell it
}

func (h *Host) setWorld(w runtime.World) error {
	h.mu.Lock()
	h.world = w
	h.mu.Unlock()
	return errors.Join(h.factory.SetWorld(w), h.enforce())
}

func (h *Host) list() []runtime.Instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]runtime.Instance, 0, len(h.units))
	for _, r := range h.units {
		i := runtime.Instance{Spec: r.spec, State: r.state, Started: r.started, PID: os.Getpid(), Restarts: r.restarts}
		if r.err != nil {
			i.Error = r.err.Error()
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b runtime.Instance) int { return strings.Compare(a.Spec.ID, b.Spec.ID) })
	return out
}

// start brings up what does not run yet, side by side.
func (h *Host) start(_ context.Context, specs []runtime.Spec) error {
	var g errgroup.Group
	for _, spec := range specs {
		g.Go(func() error { return h.startOne(spec) })
	}
	return g.Wait()
}

// starting returns the lock that serialises the starts of one instance.
func (h *Host) starting(id string) *sync.Mutex {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.starts[id]
	if !ok {
		m = &sync.Mutex{}
		h.starts[id] = m
	}
	return m
}

func (h *Host) startOne(spec runtime.Spec) error {
	m := h.starting(spec.ID)
	m.Lock()
	defer m.Unlock()
	h.mu.Lock()
	if held, down := h.held[spec.ID]; down {
		held.spec, held.again = spec, true // when its fault lapses
		h.mu.Unlock()
		return nil
	}
	was, ok := h.units[spec.ID]
	up := ok && (was.state == runtime.Running || was.state == runtime.Failed)
	h.mu.Unlock()
	if up {
		return nil
	}
	if ok {
		<-was.done // its store must be closed before it is opened again
	}
	unit, socks, err := h.build(spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &running{spec: spec, cancel: cancel, done: make(chan struct{}), sockets: socks, started: time.Now(), state: runtime.Running}
	h.mu.Lock()
	h.units[spec.ID] = r
	held, down := h.held[spec.ID] // a fault that came while it was built
	if down {
		held.spec, held.again = spec, true
	}
	frozen := h.freezeNew(r)
	h.mu.Unlock()
	go h.supervise(ctx, r, unit)
	if down {
		return h.kill([]string{spec.ID})
	}
	return frozen
}

func (h *Host) build(spec runtime.Spec) (services.Unit, *sockets, error) {
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", spec.ID, err)
	}
	ls, socks, err := listen(spec)
	if err != nil {
		return nil, nil, err
	}
	unit, err := h.factory.Build(spec, ls)
	if err != nil {
		socks.reset()
		return nil, nil, fmt.Errorf("%s: %w", spec.ID, err)
	}
	return unit, socks, nil
}

// Back-off of a unit that ends by itself.
const (
	restartFirst = 100 * time.Millisecond
	restartMax   = 5 * time.Second
)

// supervise serves the unit and starts it anew when it ends by itself, as a
// cloud's scaling group does.
func (h *Host) supervise(ctx context.Context, r *running, unit services.Unit) {
	defer close(r.done)
	backoff := restartFirst
	for {
		began := time.Now()
		err := serve(ctx, unit)
		if time.Since(began) > restartMax {
			backoff = restartFirst // it was well for long: this is another failure
		}
		if ctx.Err() != nil {
			h.mu.Lock()
			r.state, r.err = runtime.Stopped, nil
			h.mu.Unlock()
			r.sockets.reset()
			return
		}
		if err == nil {
			err = errors.New("it ended without being asked")
		}
		h.log.Error("instance failed", "instance", r.spec.ID, "error", err)
		h.mu.Lock()
		r.state, r.err = runtime.Failed, err
		h.mu.Unlock()
		r.sockets.reset()
		for unit = nil; unit == nil; {
			select {
			case <-ctx.Done():
			case <-time.After(backoff):
			}
			if ctx.Err() != nil {
				break
			}
			backoff = min(2*backoff, restartMax)
			u, socks, err := h.build(r.spec)
			h.mu.Lock()
			if err != nil {
				r.err = err
			} else {
				unit, r.sockets, r.state, r.err, r.started = u, socks, runtime.Running, nil, time.Now()
				r.restarts++
				if err := h.freezeNew(r); err != nil {
					h.log.Error("an instance that is to be frozen is not", "instance", r.spec.ID, "error", err)
				}
			}
			h.mu.Unlock()
		}
		if unit == nil {
			h.mu.Lock()
			r.state, r.err = runtime.Stopped, nil
			h.mu.Unlock()
			return
		}
	}
}

// serve turns a panic of one unit into its failure, so that it never takes the
// whole region with it.
func serve(ctx context.Context, u services.Unit) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return u.Serve(ctx)
}

func (h *Host) take(ids []string) []*running {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*running
	for _, id := range ids {
		if r, ok := h.units[id]; ok {
			out = append(out, r)
		}
	}
	return out
}

func (h *Host) stop(ctx context.Context, ids []string, grace time.Duration) error {
	rs := h.take(ids)
	for _, r := range rs {
		r.cancel(nil)
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for _, r := range rs {
		select {
		case <-r.done:
		case <-ctx.Done():
			h.reset(r) // its grace is over
			<-r.done
		}
	}
	return nil
}

func (h *Host) reset(r *running) {
	h.mu.Lock()
	s := r.sockets
	h.mu.Unlock()
	s.reset()
}

func (h *Host) kill(ids []string) error {
	for _, r := range h.take(ids) {
		// Connections first, so that nobody gets an orderly end; then the cause,
		// so that a unit that sees its listener closed knows why.
		h.mu.Lock()
		s := r.sockets
		h.mu.Unlock()
		s.resetConns()
		r.cancel(ErrKilled)
		s.reset()
		<-r.done
	}
	return nil
}

// forget takes instances that have ended off the list: nobody wants them any
// more. One that runs stays.
func (h *Host) forget(ids []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		r, ok := h.units[id]
		if !ok {
			continue
		}
		select {
		case <-r.done:
			delete(h.units, id)
		default:
			return fmt.Errorf("%s still runs: it cannot be forgotten", id)
		}
	}
	return nil
}

// StopGrace bounds an orderly end of a whole host.
const StopGrace = 3 * time.Second

func (h *Host) stopAll(ctx context.Context) {
	h.mu.Lock()
	ids := make([]string, 0, len(h.units))
	for id := range h.units {
		ids = append(ids, id)
	}
	h.mu.Unlock()
	_ = h.stop(ctx, ids, StopGrace)
	ctx, cancel := context.WithTimeout(ctx, StopGrace)
	defer cancel()
	if err := h.factory.Close(ctx); err != nil {
		h.log.Error("closing what units shared", "error", err)
	}
}
