package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

const (
	// maxWatchers bounds the browsers that follow the lab at once.
	maxWatchers = 32
	// backlog is how many messages a browser may be behind before it is let go;
	// it comes back by itself.
	backlog = 64
	// recent is how many events a browser is told that has just come.
	recent = 20
	// comment is sent when nothing happens, so that a dead connection is noticed.
	comment = 15 * time.Second
)

// watch follows the lab while somebody looks, and tells every browser of it by
// server-sent events: "lab" with a Snapshot whenever that changed, "log" with
// each control.Event. Safe for concurrent use.
type watch struct {
	c    Config
	ways *ways
	// first is poked when somebody looks again, changed when something happened.
	first, changed chan struct{}

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	state    []byte   // the last snapshot, as a message
	log      [][]byte // the last events, as messages
	seq      uint64
	ended    bool
}

// watcher is one browser.
type watcher struct {
	messages chan []byte
}

func newWatch(c Config, w *ways) *watch {
	return &watch{c: c, ways: w, first: make(chan struct{}, 1), changed: make(chan struct{}, 1), watchers: map[*watcher]struct{}{}}
}

// run follows the lab until ctx ends, and ends every stream then.
func (w *watch) run(ctx context.Context) {
	defer w.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.first:
		}
		looking, cancel := context.WithCancel(ctx)
		var g sync.WaitGroup
		g.Go(func() { w.follow(looking) })
		w.poll(looking)
		cancel()
		g.Wait()
	}
}

// poll asks for the lab's state until nobody looks any more.
func (w *watch) poll(ctx context.Context) {
	tick := time.NewTicker(w.c.Poll)
	defer tick.Stop()
	for w.watched() {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.changed:
			// Events come in crowds: one look for all of them.
			select {
			case <-ctx.Done():
				return
			case <-time.After(w.c.Poll / 4):
			}
		}
	}
}

// look takes one snapshot and tells it if it is new.
func (w *watch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*w.c.Poll)
	defer cancel()
	s, err := w.snapshot(ctx)
	if err != nil {
		if ctx.Err() != nil && ctx.Err() != context.DeadlineExceeded {
			return
		}
		s = Snapshot{Error: err.Error(), Regions: []RegionNow{}, Plays: []PlayNow{}}
	}
	m := message("lab", "", s)
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes.Equal(m, w.state) {
		return
	}
	w.state = m
	w.tell(m)
}

func (w *watch) snapshot(ctx context.Context) (Snapshot, error) {
	// A lab that was taken down and up again has other ports.
	if err := w.ways.refresh(ctx); err != nil {
		return Snapshot{}, err
	}
	st, err := w.c.Lab.Status(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	sessions, err := w.c.Lab.Sessions(ctx)
	if err != nil {
		sessions = nil // the pipeline is away with its region: the map goes on without
	}
	return snapshot(st, sessions, w.ways.now().Topology.Timing.ProgressReport.D(), time.Now()), nil
}

// follow reads the event log until ctx ends.
func (w *watch) follow(ctx context.Context) {
	tick := time.NewTicker(w.c.Poll)
	defer tick.Stop()
	for ctx.Err() == nil {
		if seq, err := w.catchUp(ctx); err == nil {
			// It ends when the daemon does, which look tells of.
			_ = w.c.Lab.Events(ctx, seq, true, func(e control.Event) error { w.event(e); return nil })
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// catchUp returns where to read on. The first time, and when the log is another
// one that is shorter than what was read, everybody is told its last events.
func (w *watch) catchUp(ctx context.Context) (uint64, error) {
	var last []control.Event
	if err := w.c.Lab.Events(ctx, 0, false, func(e control.Event) error {
		if last = append(last, e); len(last) > recent {
			last = last[1:]
		}
		return nil
	}); err != nil {
		return 0, err
	}
	end := uint64(0)
	if len(last) > 0 {
		end = last[len(last)-1].Seq
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seq > 0 && end >= w.seq {
		return w.seq, nil
	}
	w.seq, w.log = end, nil
	for _, e := range last {
		m := message("log", fmt.Sprint(e.Seq), e)
		w.log = append(w.log, m)
		w.tell(m)
	}
	return end, nil
}

func (w *watch) event(e control.Event) {
	m := message("log", fmt.Sprint(e.Seq), e)
	w.mu.Lock()
	w.seq = e.Seq
	w.log = append(w.log, m)
	if len(w.log) > recent {
		w.log = w.log[len(w.log)-recent:]
	}
	w.tell(m)
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// tell sends a message to everybody. w.mu is held.
func (w *watch) tell(m []byte) {
	for x := range w.watchers {
		select {
		case x.messages <- m:
		default:
			delete(w.watchers, x)
			close(x.messages)
		}
	}
}

func (w *watch) watched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.watchers) > 0
}

// join adds a browser, which is told what is known already.
func (w *watch) join() (*watcher, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
		return nil, services.Errorf(services.Unavailable, "the page's server is ending")
	case len(w.watchers) >= maxWatchers:
		return nil, services.Errorf(services.Exhausted, "%d browsers follow the lab already", maxWatchers).WithRemedy("close some")
	}
	x := &watcher{messages: make(chan []byte, backlog)}
	if w.state != nil {
		x.messages <- w.state
	}
	for _, m := range w.log {
		x.messages <- m
	}
	w.watchers[x] = struct{}{}
	select {
	case w.first <- struct{}{}:
	default:
	}
	return x, nil
}

func (w *watch) leave(x *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.watchers[x]; ok {
		delete(w.watchers, x)
		close(x.messages)
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for x := range w.watchers {
		delete(w.watchers, x)
		close(x.messages)
	}
}

// serve is one browser's stream.
func (w *watch) serve(rw http.ResponseWriter, r *http.Request) {
	x, err := w.join()
	if err != nil {
		refuse(rw, err)
		return
	}
	defer w.leave(x)
	h := rw.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close") // what is set on it below is not for another request
	out := http.NewResponseController(rw)
	tick := time.NewTicker(comment)
	defer tick.Stop()
	next := []byte("retry: 1000\n\n")
	for {
		// Without an end a browser that reads no more would hold this for good.
		if out.SetWriteDeadline(time.Now().Add(comment)) != nil {
			return
		}
		if _, err := rw.Write(next); err != nil {
			return
		}
		if out.Flush() != nil {
			return
		}
		var ok bool
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			next = []byte(": still here\n\n")
		case next, ok = <-x.messages:
			if !ok {
				return
			}
		}
	}
}

// message is a server-sent event (HTML, 9.2).
func message(kind, id string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // they hold strings, numbers and what was JSON before
		panic("web: " + err.Error())
	}
	var m strings.Builder
	if id != "" {
		fmt.Fprintf(&m, "id: %s\n", id)
	}
	fmt.Fprintf(&m, "event: %s\ndata: %s\n\n", kind, b)
	return []byte(m.String())
}
