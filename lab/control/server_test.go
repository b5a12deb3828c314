package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// TestEveryCall sends each request over the socket and checks that argument
// and answer arrive.
func TestEveryCall(t *testing.T) {
	e := &fakeEngine{
		status: func(context.Context) (Status, error) { return Status{Name: "x", Instances: 3}, nil },
		titles: func(q string) (Titles, error) { return Titles{Titles: []Title{{Name: q}}}, nil },
		trace:  func(id string) (Trace, error) { return Trace{ID: id}, nil },
	}
	c, _ := serve(t, e, nil)
	ctx := t.Context()
	must := func(what string, ok bool, err error) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: wrong answer (error %v)", what, err)
		}
	}
	st, err := c.Status(ctx)
	must("status", st.Name == "x" && st.Instances == 3, err)
	w, err := c.World(ctx)
	must("world", w.Lab == "fake", err)
	p, err := c.Plan(ctx, UpRequest{Runtime: "embedded", Topology: topology.Topology{Regions: []topology.Region{{Name: "north"}}}})
	must("plan", p.Runtime == "embedded" && slices.Equal(p.Regions, []string{"north"}), err)
	fs, err := c.FillStatus(ctx)
	must("fill status", fs.OriginEgressRatio == 1, err)
	fr, err := c.FillRun(ctx, FillRunRequest{Now: true, Deep: true})
	must("fill run", fr.Appliances == 7, err)
	fp, err := c.FillPlan(ctx, FillPlanRequest{Scope: "a/b c", Title: "t&", Limit: 7})
	must("fill plan", fp.LeftOff == 7 && len(fp.Moves) == 1 && fp.Moves[0] == FillMove{Title: "t&", From: "a/b c"}, err)
	fe, err := c.FillExplain(ctx, FillExplainRequest{Title: "t&", Appliance: "a/b"})
	must("fill explain", fe.Title == "t&" && fe.Appliance == "a/b", err)
	rule := FillRule{Kind: "pin", Scope: "a/b", Title: "t&", Active: true}
	frs, err := c.SetFillRule(ctx, rule)
	must("fill rule", slices.Equal(frs.Rules, []FillRule{rule}), err)
	ts, err := c.Titles(ctx, "a&b=ä +")
	must("titles", len(ts.Titles) == 1 && ts.Titles[0].Name == "a&b=ä +", err)
	js, err := c.Jobs(ctx)
	must("jobs", len(js) == 1, err)
	fb, err := c.Failback(ctx, FailoverRequest{Region: "north", DryRun: true}, nil)
	must("failback", fb.Region == "north" && fb.DryRun, err)
	fos, err := c.FailoverStatus(ctx)
	must("failover status", len(fos) == 1, err)
	ss, err := c.Sessions(ctx)
	must("sessions", len(ss) == 1, err)
	tr, err := c.Trace(ctx, "a/b?c")
	must("trace", tr.ID == "a/b?c", err)
	must("record", true, c.Record(ctx, Event{Kind: "play.done"}, []Span{{SpanID: "s"}}))
	for _, verb := range []string{"stop", "start", "kill"} {
		must(verb, true, c.Instance(ctx, verb, "north/a/kv/1"))
	}
	if err := c.Instance(ctx, "explode", "x"); err == nil {
		t.Error("an unknown verb was accepted")
	}
	want := []string{"record play.done", "stop north/a/kv/1", "start north/a/kv/1", "kill north/a/kv/1"}
	if got := e.seen(); !slices.Equal(got, want) {
		t.Errorf("the engine saw %q, want %q", got, want)
	}
	if len(e.spans) != 1 {
		t.Errorf("%d spans arrived, want 1", len(e.spans))
	}
}

// TestStreamedProgress checks that events arrive while the request runs, not
// with its result.
func TestStreamedProgress(t *testing.T) {
	first := make(chan struct{})
	e := &fakeEngine{up: func(ctx context.Context, r UpRequest, p Progress) (UpResult, error) {
		p(Event{Kind: "up.begin", Text: "prepare"})
		select { // the client has the first event before the second is sent
		case <-first:
		case <-ctx.Done():
			return UpResult{}, ctx.Err()
		}
		p(Event{Kind: "up.step", Text: "done", Data: map[string]any{"ms": 1.5}})
		return UpResult{Name: r.Runtime, Instances: 4}, nil
	}}
	c, _ := serve(t, e, nil)
	var got []Event
	res, err := c.Up(t.Context(), UpRequest{Runtime: "embedded"}, func(ev Event) {
		if got = append(got, ev); len(got) == 1 {
			close(first)
		}
	})
	if err != nil || res.Name != "embedded" || res.Instances != 4 {
		t.Fatalf("result %+v, error %v", res, err)
	}
	if len(got) != 2 || got[0].Text != "prepare" || got[1].Data["ms"] != 1.5 {
		t.Errorf("events: %+v", got)
	}
}

// TestErrorBesideResult checks that a failed evacuation still has its report,
// and that kind, reason and remedy cross the socket.
func TestErrorBesideResult(t *testing.T) {
	e := &fakeEngine{failover: func(_ context.Context, r FailoverRequest, _ Progress) (Failover, error) {
		return Failover{Region: r.Region, State: "rolled_back", PlaysFailed: 2},
			services.Wrap("proxy", services.Errorf(services.Unavailable, "plays fail").WithReason(services.ReasonPlayFailed).WithRemedy("look at the savers"))
	}}
	c, _ := serve(t, e, nil)
	rep, err := c.Failover(t.Context(), FailoverRequest{Region: "north"}, nil)
	if rep.State != "rolled_back" || rep.PlaysFailed != 2 || rep.Region != "north" {
		t.Errorf("report %+v", rep)
	}
	var se *services.Error
	if !errors.As(err, &se) || se.Kind != services.Unavailable || se.Reason != services.ReasonPlayFailed || se.Remedy != "look at the savers" || err.Error() != "proxy: plays fail" {
		t.Errorf("error %#v", err)
	}
}

func TestErrorsOfPlainCalls(t *testing.T) {
	for _, kind := range []services.Kind{services.Invalid, services.NotFound, services.Denied, services.Conflict, services.Unavailable, services.Exhausted, services.Internal} {
		e := &fakeEngine{status: func(context.Context) (Status, error) {
			return Status{}, services.Errorf(kind, "why").WithReason("r").WithRemedy("do")
		}}
		c, end := serve(t, e, nil)
		_, err := c.Status(t.Context())
		var se *services.Error
		if !errors.As(err, &se) || se.Kind != kind || se.Reason != "r" || se.Remedy != "do" {
			t.Errorf("%s: got %#v", kind, err)
		}
		end()
	}
}

// TestCancelReachesTheEngine checks that a client that gives up cancels its
// request, and that down alone goes on without it.
func TestCancelReachesTheEngine(t *testing.T) {
	started, ended := make(chan struct{}), make(chan error, 1)
	e := &fakeEngine{up: func(ctx context.Context, _ UpRequest, _ Progress) (UpResult, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return UpResult{}, ctx.Err()
	}}
	c, _ := serve(t, e, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := c.Up(ctx, UpRequest{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v, want its own cancellation", err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the engine was not told that its client has gone")
	}
}

func TestDownGoesOnWithoutItsClient(t *testing.T) {
	started, release, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	e := &fakeEngine{down: func(ctx context.Context, _ DownRequest) (DownResult, error) {
		close(started)
		<-release
		ended <- ctx.Err()
		return DownResult{}, nil
	}}
	c, _ := serve(t, e, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := c.Down(ctx, DownRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("down was cut short: %v", err)
	}
}

// TestDownAnswersBeforeTheEnd checks that the client has the answer when the
// daemon is told to end, as that cuts every connection.
func TestDownAnswersBeforeTheEnd(t *testing.T) {
	e := &fakeEngine{down: func(context.Context, DownRequest) (DownResult, error) {
		return DownResult{Name: "x", Processes: 3}, nil
	}}
	answered, ended := make(chan struct{}), make(chan bool, 1)
	c, _ := serve(t, e, func() {
		select {
		case <-answered:
			ended <- true
		case <-time.After(time.Minute):
			ended <- false
		}
	})
	res, err := c.Down(t.Context(), DownRequest{})
	close(answered)
	if err != nil || res.Processes != 3 {
		t.Errorf("answer %+v, error %v", res, err)
	}
	if !<-ended {
		t.Error("the daemon was told to end before its client had the answer")
	}
}

func TestFailedDownKeepsTheDaemon(t *testing.T) {
	e := &fakeEngine{
		down:   func(context.Context, DownRequest) (DownResult, error) { return DownResult{}, errors.New("disk") },
		status: func(context.Context) (Status, error) { return Status{Name: "still"}, nil },
	}
	c, _ := serve(t, e, func() { t.Error("the daemon was ended") })
	if _, err := c.Down(t.Context(), DownRequest{}); services.KindOf(err) != services.Internal {
		t.Errorf("error %v", err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.Name != "still" {
		t.Errorf("status %+v, %v", st, err)
	}
}

// TestGateLetsNobodyInAfterItsEnd: whoever came before is waited for, and who
// comes later is turned away.
func TestGateLetsNobodyInAfterItsEnd(t *testing.T) {
	var g gate
	if !g.enter() {
		t.Fatal("an open gate turns somebody away")
	}
	ended := make(chan struct{})
	go func() { defer close(ended); g.end() }()
	for g.enter() { // until the end has begun
		g.leave()
	}
	select {
	case <-ended:
		t.Error("it does not wait for who came before")
	default:
	}
	g.leave()
	<-ended
}

// TestServeWaitsForHandlers checks that nothing of the API runs any more when
// Serve has returned: its caller closes journal and log then.
func TestServeWaitsForHandlers(t *testing.T) {
	started := make(chan struct{})
	var ended atomic.Bool
	e := &fakeEngine{up: func(ctx context.Context, _ UpRequest, _ Progress) (UpResult, error) {
		close(started)
		<-ctx.Done()
		<-time.After(100 * time.Millisecond) // what it has begun takes a while
		ended.Store(true)
		return UpResult{}, ctx.Err()
	}}
	c, end := serve(t, e, nil)
	answered := make(chan error, 1)
	go func() { _, err := c.Up(context.Background(), UpRequest{}, nil); answered <- err }()
	<-started
	end()
	if !ended.Load() {
		t.Error("Serve returned while a request was still at work")
	}
	if err := <-answered; err == nil {
		t.Error("the cut-off request succeeded")
	}
	for deadline := time.Now().Add(time.Second); !ended.Load() && time.Now().Before(deadline); {
		<-time.After(time.Millisecond) // for the leak check, when the test has failed
	}
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	ln, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{filepath.Join(dir, "none.sock"), filepath.Join(dir, "no", "folder.sock"), stale} {
		c := NewClient(socket)
		if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("status at %s: %v, want ErrNoDaemon", filepath.Base(socket), err)
		}
		if _, err := c.Up(t.Context(), UpRequest{}, nil); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("up at %s: %v, want ErrNoDaemon", filepath.Base(socket), err)
		}
		if err := c.Events(t.Context(), 0, true, nil); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("events at %s: %v, want ErrNoDaemon", filepath.Base(socket), err)
		}
	}
}

// TestDaemonGoneMidStream cuts the daemon off at different points of an answer,
// as SIGKILL would: the client says that it is out of reach and what to do.
func TestDaemonGoneMidStream(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	event := `{"event":{"kind":"up.step"}}` + "\n"
	chunk := "1d\r\n" + event + "\r\n"
	for name, tc := range map[string]struct {
		answer string
		call   func(*Client) error
	}{
		"before the answer": {"", func(c *Client) error { _, err := c.Up(t.Context(), UpRequest{}, nil); return err }},
		"after an event":    {head + chunk, func(c *Client) error { _, err := c.Up(t.Context(), UpRequest{}, nil); return err }},
		"inside an event":   {head + "1d\r\n{\"event\":", func(c *Client) error { _, err := c.Up(t.Context(), UpRequest{}, nil); return err }},
		"orderly, without a result": {head + chunk + "0\r\n\r\n", func(c *Client) error {
			_, err := c.Up(t.Context(), UpRequest{}, nil)
			return err
		}},
		"plain call": {"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"name\":", func(c *Client) error { _, err := c.Status(t.Context()); return err }},
		"events": {head + "d\r\n{\"seq\":1}\n{\"se", func(c *Client) error {
			return c.Events(t.Context(), 0, true, func(Event) error { return nil })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "d.sock")
			ln, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 4096)
				_, _ = conn.Read(buf)
				_, _ = conn.Write([]byte(tc.answer))
				_ = conn.Close()
			}()
			err = tc.call(NewClient(socket))
			<-done
			var se *services.Error
			if !errors.As(err, &se) || se.Kind != services.Unavailable {
				t.Fatalf("error %#v, want Unavailable", err)
			}
			if se.Remedy == "" {
				t.Errorf("%q says nothing about what to do", err)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	e := &fakeEngine{up: func(context.Context, UpRequest, Progress) (UpResult, error) {
		t.Error("the engine got a request that is not one")
		return UpResult{}, nil
	}}
	c, _ := serve(t, e, nil)
	for _, path := range []string{"/v1/up", "/v1/plan", "/v1/fill"} {
		_, err := do[struct{}](t.Context(), c, "POST", path, "a string")
		if services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v, want Invalid", path, err)
		}
	}
	if _, err := do[struct{}](t.Context(), c, "GET", "/v1/nothing", nil); err == nil {
		t.Error("an unknown path was answered")
	}
	huge := struct{ File string }{strings.Repeat("x", maxRequest+1)}
	if _, err := do[struct{}](t.Context(), c, "POST", "/v1/fill", huge); err == nil {
		t.Error("a request beyond the bound was taken")
	}
}

// TestPeerCredentials checks the two sides of the rule: the lab's user is
// served, what is no unix connection is not.
func TestPeerCredentials(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	out, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if checkPeer(in) == nil {
		t.Error("a TCP connection passed for one of the lab's user")
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "p.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	mine, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	served, err := (sameUser{ln}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if err := checkPeer(served); err != nil {
		t.Errorf("user %d was refused at its own socket: %v", os.Getuid(), err)
	}
	_ = served.Close()
	if checkPeer(served) == nil {
		t.Error("a closed connection has credentials")
	}
}

// TestWholeLab asks for what concerns the lab as a whole.
func TestWholeLab(t *testing.T) {
	c, _ := serve(t, &fakeEngine{}, nil)
	var seen []string
	res, err := c.Halt(t.Context(), func(e Event) { seen = append(seen, e.Text) })
	if err != nil || res.State != "stopped" || len(res.Instances) != 1 || len(seen) != 1 || seen[0] != "stores" {
		t.Errorf("halt: %+v, progress %v, error %v", res, seen, err)
	}
	if res, err := c.Resume(t.Context(), nil); services.KindOf(err) != services.Conflict || res.State != "running" {
		t.Errorf("resume: %+v, %v", res, err)
	}
	if e, err := c.Explain(t.Context(), SteerRequest{Region: "us-east", IP: "2001:db8::1", Title: "a b&c"}); err != nil || e.ClientIP != "2001:db8::1" || e.TitleID != "a b&c" || e.Error != "us-east" {
		t.Errorf("explain: %+v, %v", e, err)
	}
	if w, err := c.WhatIf(t.Context(), SteerRequest{Lose: []string{"x", "y"}}); err != nil || len(w.Lost) != 2 {
		t.Errorf("what-if: %+v, %v", w, err)
	}
	if d, err := c.Diff(t.Context()); err != nil || d.Lab != "fake" || d.Differences[0].Kind != "missing" {
		t.Errorf("diff: %+v, %v", d, err)
	}
	if s, err := c.SaveSnapshot(t.Context(), SnapshotRequest{Name: "s"}, nil); err != nil || s.Name != "s" || s.Parts != 2 {
		t.Errorf("snapshot: %+v, %v", s, err)
	}
}
