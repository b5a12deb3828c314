package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
)

// Progress reports an event of a long request to whoever asked for it.
type Progress func(Event)

// Engine is what the daemon can do; package lab implements it. Requests are
// cancelled when the client goes away.
type Engine interface {
	Up(ctx context.Context, r UpRequest, p Progress) (UpResult, error)
	Plan(ctx context.Context, r UpRequest) (Plan, error)
	Down(ctx context.Context, r DownRequest) (DownResult, error)
	Status(ctx context.Context) (Status, error)
	World(ctx context.Context) (World, error)
	FillEngine
	Titles(ctx context.Context, query string) (Titles, error)
	AddTitle(ctx context.Context, r AddTitleRequest, p Progress) (AddTitleResult, error)
	Jobs(ctx context.Context) ([]Job, error)
	Failover(ctx context.Context, r FailoverRequest, p Progress) (Failover, error)
	Failback(ctx context.Context, r FailoverRequest, p Progress) (Failover, error)
	FailoverStatus(ctx context.Context) ([]Failover, error)
	// CancelMove undoes the move that is under way, and returns when it is: a
	// failover or failback goes on when its client goes away.
	CancelMove(ctx context.Context, r FailoverRequest) (Failover, error)
	Trace(ctx context.Context, id string) (Trace, error)
	Sessions(ctx context.Context) ([]Session, error)
	// Record takes an event from a client, such as a player's start and stop;
	// spans are kept for Trace.
	Record(ctx context.Context, e Event, spans []Span) error
	StopInstance(ctx context.Context, name string) error
	StartInstance(ctx context.Context, name string) error
	KillInstance(ctx context.Context, name string) error
	// Halt stops the lab as a whole, Resume starts it again.
	Halt(ctx context.Context, r struct{}, p Progress) (Switched, error)
	Resume(ctx context.Context, r struct{}, p Progress) (Switched, error)
	Diff(ctx context.Context) (Diff, error)
	SaveSnapshot(ctx context.Context, r SnapshotRequest, p Progress) (Snapshot, error)
	WAN(ctx context.Context) (WAN, error)
	Cut(ctx context.Context, r CutRequest) (WAN, error)
	Check(ctx context.Context, r CheckRequest, p Progress) (Check, error)
	SteeringEngine
	ScaleEngine
	WatchEngine
	CacheEngine
	Registry
	Commands(ctx context.Context, q CommandQuery) (Commands, error)
	SetCommand(ctx context.Context, r CommandRequest) (Commands, error)
	GatewayEngine
	FaultEngine
	Log() *Log
	// Version of the build.
	Version() string
}

// versionHeader names the daemon's build, in the answer that asks for it.
const versionHeader = "Flix-Version"

// Message is one line of a streamed answer: an event, the result, or an error.
type Message struct {
	Event  *Event            `json:"event,omitempty"`
	Result json.RawMessage   `json:"result,omitempty"`
	Error  *services.Problem `json:"error,omitempty"`
}

// Serve answers on the socket until ctx ends. onDown runs after a successful
// Down was answered.
func Serve(ctx context.Context, l net.Listener, e Engine, onDown func()) error {
	var running gate
	m := mux(e, onDown)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !running.enter() {
				panic(http.ErrAbortHandler) // the connection is closed already
			}
			defer running.leave()
			m.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(sameUser{l}) }()
	// What the handlers stand on is closed after Serve: it waits for them.
	defer running.end()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		_ = srv.Close()
		<-done
		return nil
	}
}

// gate counts the requests that are at work. One that was read before the server
// closed and begins after it is turned away: nobody waits for it any more.
type gate struct {
	mu    sync.Mutex
	ended bool
	busy  sync.WaitGroup
}

// enter says whether the caller may work; it calls leave then.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.busy.Add(1)
	}
	return !g.ended
}

func (g *gate) leave() { g.busy.Done() }

// end lets nobody in any more and waits for those who are.
func (g *gate) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.busy.Wait()
}

func mux(e Engine, onDown func()) *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(versionHeader, e.Version()) })
	m.HandleFunc("POST /v1/up", stream(e.Up))
	m.HandleFunc("POST /v1/plan", call(e.Plan))
	m.HandleFunc("POST /v1/down", func(w http.ResponseWriter, r *http.Request) {
		ok := false
		call(func(ctx context.Context, req DownRequest) (DownResult, error) {
			// Half a down is worse than either: it goes on without its client.
			res, err := e.Down(context.WithoutCancel(ctx), req)
			ok = err == nil
			return res, err
		})(w, r)
		if ok {
			// The answer must be out before the server ends.
			_ = http.NewResponseController(w).Flush()
			onDown()
		}
	})
	m.HandleFunc("GET /v1/status", get(e.Status))
	m.HandleFunc("GET /v1/world", get(e.World))
	fillMux(m, e)
	m.HandleFunc("GET /v1/titles", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (Titles, error) { return e.Titles(ctx, r.URL.Query().Get("q")) })(w, r)
	})
	m.HandleFunc("POST /v1/titles", stream(e.AddTitle))
	m.HandleFunc("GET /v1/jobs", get(e.Jobs))
	m.HandleFunc("POST /v1/failover", stream(e.Failover))
	m.HandleFunc("POST /v1/failback", stream(e.Failback))
	m.HandleFunc("GET /v1/failover", get(e.FailoverStatus))
	m.HandleFunc("POST /v1/failover/cancel", call(e.CancelMove))
	m.HandleFunc("GET /v1/traces/{id}", func(w http.ResponseWriter, r *http.Request) {
		get(func(ctx context.Context) (Trace, error) { return e.Trace(ctx, r.PathValue("id")) })(w, r)
	})
	m.HandleFunc("GET /v1/sessions", get(e.Sessions))
	m.HandleFunc("POST /v1/record", call(func(ctx context.Context, r recordRequest) (struct{}, error) {
		return struct{}{}, e.Record(ctx, r.Event, r.Spans)
	}))
	registryRoutes(m, e)
	m.HandleFunc("GET /v1/commands", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		get(func(ctx context.Context) (Commands, error) {
			return e.Commands(ctx, CommandQuery{Name: q.Get("name"), Region: q.Get("region"), Role: q.Get("role"), Instance: q.Get("instance")})
		})(w, r)
	})
	m.HandleFunc("POST /v1/commands", call(e.SetCommand))
	m.HandleFunc("GET /v1/wan", get(e.WAN))
	m.HandleFunc("POST /v1/wan", call(e.Cut))
	m.HandleFunc("POST /v1/check", stream(e.Check))
	cacheRoutes(m, e)
	for verb, f := range map[string]func(context.Context, string) error{"stop": e.StopInstance, "start": e.StartInstance, "kill": e.KillInstance} {
		m.HandleFunc("POST /v1/instances/"+verb, call(func(ctx context.Context, r InstanceRequest) (struct{}, error) {
			return struct{}{}, f(ctx, r.Name)
		}))
	}
	m.HandleFunc("POST /v1/halt", stream(e.Halt))
	m.HandleFunc("POST /v1/resume", stream(e.Resume))
	m.HandleFunc("GET /v1/diff", get(e.Diff))
	steerMux(m, e)
	scaleMux(m, e)
	watchMux(m, e)
	m.HandleFunc("POST /v1/snapshots", stream(e.SaveSnapshot))
	gatewayMux(m, e)
	faultMux(m, e)
	m.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) { events(e.Log(), w, r) })
	return m
}

type recordRequest struct {
	Event Event  `json:"event"`
	Spans []Span `json:"spans,omitempty"`
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 16 << 20

func call[Req, Res any](f func(context.Context, Req) (Res, error)) http.HandlerFunc {
	return sized(maxRequest, f)
}

// sized is call with another bound of the request's body, in bytes.
func sized[Req, Res any](most int64, f func(context.Context, Req) (Res, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(&req); err != nil {
			answer(w, nil, services.Errorf(services.Invalid, "request: %v", err))
			return
		}
		res, err := f(r.Context(), req)
		answer(w, res, err)
	}
}

func get[Res any](f func(context.Context) (Res, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		res, err := f(r.Context())
		answer(w, res, err)
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(services.KindOf(err).HTTPStatus())
		v = services.ProblemOf(err)
	}
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nothing to tell it
}

// stream answers with Messages: events as they come, then the result.
func stream[Req, Res any](f func(context.Context, Req, Progress) (Res, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&req); err != nil {
			answer(w, nil, services.Errorf(services.Invalid, "request: %v", err))
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		var mu sync.Mutex
		enc, rc := json.NewEncoder(w), http.NewResponseController(w)
		send := func(m Message) {
			mu.Lock()
			defer mu.Unlock()
			if enc.Encode(m) == nil {
				_ = rc.Flush()
			}
		}
		res, err := f(r.Context(), req, func(e Event) { send(Message{Event: &e}) })
		// The result goes out beside an error: a failed evacuation has a report.
		raw, merr := json.Marshal(res)
		m := Message{Result: raw}
		if err = errors.Join(err, merr); err != nil {
			p := services.ProblemOf(err)
			m.Error = &p
		}
		send(m)
	}
}

func events(l *Log, w http.ResponseWriter, r *http.Request) {
	seq, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		seq = 0
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	emit := func(e Event) error {
		if err := enc.Encode(e); err != nil {
			return err
		}
		return rc.Flush()
	}
	if r.URL.Query().Get("follow") == "" {
		es, _ := l.Since(seq)
		for _, e := range es {
			if emit(e) != nil {
				return
			}
		}
		return
	}
	_ = l.Follow(r.Context(), seq, emit) // ends when the client goes
}

// sameUser closes connections of other users (and keeps root out of nothing:
// root reads every file anyway).
type sameUser struct{ net.Listener }

func (l sameUser) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if err := checkPeer(c); err != nil {
			_ = c.Close()
			continue
		}
		return c, nil
	}
}

func checkPeer(c net.Conn) error {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("not a unix connection")
	}
	rc, err := uc.SyscallConn()
	if err != nil {
		return err
	}
	var (
		cred *unix.Ucred
		cerr error
	)
	if err := rc.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if cerr != nil {
		return cerr
	}
	if uid := int(cred.Uid); uid != os.Getuid() && uid != 0 {
		return fmt.Errorf("user %d is not the lab's", uid)
	}
	return nil
}
