package player

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/lab/player/abr/sim"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/discovery"
)

// counted is a gauge that sums up.
type counted struct {
	shown, bytes, rebuffers atomic.Int64
	playing                 atomic.Int64
}

func (c *counted) Shown(time.Duration) { c.shown.Add(1) }
func (c *counted) Received(n int)      { c.bytes.Add(int64(n)) }
func (c *counted) Passed(playing, _ time.Duration, rebuffers int) {
	c.playing.Add(int64(playing))
	c.rebuffers.Add(int64(rebuffers))
}

// TestLightReceivesEverythingAndKeepsNothing compares the two modes.
func TestLightReceivesEverythingAndKeepsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 8, "isp", "exchange")
		o := l.options()
		o.Mode = Light
		g := &counted{}
		o.Gauge = g
		r := mustPlay(t, l, o)
		if r.SecondsPlayed != 16 || r.Segments != 16 || r.ChecksumOK || len(r.Errors) != 0 || r.Rebuffers != 0 {
			t.Errorf("played %g s in %d segments, checksums said to be ok %v, errors %q", r.SecondsPlayed, r.Segments, r.ChecksumOK, r.Errors)
		}
		if g.shown.Load() != 1 || uint64(g.bytes.Load()) != r.Bytes || r.Bytes == 0 {
			t.Errorf("the gauge saw %d starts and %d of %d bytes", g.shown.Load(), g.bytes.Load(), r.Bytes)
		}
		if got, want := float64(g.playing.Load())/1e9, r.PlayingS; got < want*0.99 || got > want*1.01 {
			t.Errorf("the gauge saw %g s playing of %g", got, want)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.clients[r.ClientIP] || len(l.clients) != 1 {
			t.Errorf("the API saw clients %v, want only %s", l.clients, r.ClientIP)
		}
	})
}

// Once all is received a light player has no use for an appliance.
func TestLightLeavesAppliancesThatItHasNoUseFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 8, "isp", "exchange")
		o := l.options()
		o.Mode = Light
		mustPlay(t, l, o)
		last := len(l.reports) - 1
		if kind := l.reports[last].Kind; kind != "stop" || l.open[last] != 0 {
			t.Errorf("at the last report, %q, appliances have %d connections", kind, l.open[last])
		}
	})
}

// TestHeadAsksForNoMedia makes the calls of a play and receives nothing.
func TestHeadAsksForNoMedia(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 8, "isp")
		o := l.options()
		o.Mode = Head
		r := mustPlay(t, l, o)
		if r.Bytes != 0 || r.Segments != 0 || r.PlayDelayMS <= 0 || r.SecondsPlayed == 0 || len(r.Errors) != 0 {
			t.Errorf("%d bytes, %d segments, delay %g ms, %g s, errors %q", r.Bytes, r.Segments, r.PlayDelayMS, r.SecondsPlayed, r.Errors)
		}
	})
}

func TestSeek(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []Mode{Full, Light} {
			l := newFakeLab(t, 16, "isp")
			o := l.options()
			o.Mode, o.Seeks = mode, []Seek{{After: 4, To: 24}}
			r := mustPlay(t, l, o)
			// 4 s at the begin, and from 24 s to the end at 32.
			if r.Seeks != 1 || r.SecondsPlayed < 12 || r.SecondsPlayed > 14 || r.SeekDelayMS <= 0 || r.Rebuffers != 0 || len(r.Errors) != 0 {
				t.Errorf("%s: %d jumps, %g s played, a jump took %g ms, %d rebuffers, errors %q", mode, r.Seeks, r.SecondsPlayed, r.SeekDelayMS, r.Rebuffers, r.Errors)
			}
		}
	})
}

func TestSeekBeyondTheEndStaysInside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 8, "isp")
		o := l.options()
		o.Seeks = []Seek{{After: 2, To: 1000}}
		if r := mustPlay(t, l, o); r.Seeks != 1 || r.SecondsPlayed > 6 {
			t.Errorf("%d jumps, %g s played", r.Seeks, r.SecondsPlayed)
		}
	})
}

func TestLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range Modes() {
			l := newFakeLab(t, 16, "isp")
			o := l.options()
			o.Mode, o.Leave = mode, 5
			r := mustPlay(t, l, o)
			if !r.Left || r.SecondsPlayed < 5 || r.SecondsPlayed > 12 {
				t.Errorf("%s: left %v after %g s", mode, r.Left, r.SecondsPlayed)
			}
			l.mu.Lock()
			if n := len(l.reports); n == 0 || l.reports[n-1].Kind != "stop" {
				t.Errorf("%s: the last of %d reports is no stop", mode, n)
			}
			l.mu.Unlock()
		}
	})
}

// TestUntil walks away when somebody says so, with the last word said.
func TestUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 16, "isp")
		o := l.options()
		o.Speed = 1
		until, stop := context.WithCancel(t.Context())
		o.Until = until
		o.Gauge = shownGauge{stop}
		if r := mustPlay(t, l, o); !r.Left || r.SecondsPlayed > 8 {
			t.Errorf("left %v after %g s", r.Left, r.SecondsPlayed)
		}
	})
}

// shownGauge calls a function when the first picture is there.
type shownGauge struct{ f func() }

func (g shownGauge) Shown(time.Duration)                      { g.f() }
func (g shownGauge) Received(int)                             {}
func (g shownGauge) Passed(_, _ time.Duration, rebuffers int) {}

// TestBrowse looks at the home page first.
func TestBrowse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		o := l.options()
		o.Browse = true
		mustPlay(t, l, o)
		l.mu.Lock()
		defer l.mu.Unlock()
		if !slices.ContainsFunc(l.requests, func(r string) bool { return strings.HasSuffix(r, discovery.PathRows) }) {
			t.Errorf("nobody asked for the rows: %q", l.requests)
		}
	})
}

func TestModesAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 2, "isp")
		for name, change := range map[string]func(*Options){
			"unknown mode":       func(o *Options) { o.Mode = "heavy" },
			"leaving before":     func(o *Options) { o.Leave = -1 },
			"a cap and a trace":  func(o *Options) { o.Bandwidth, o.Network = 1e6, []sim.Period{{DurationMS: 1000, BandwidthKbps: 100}} },
			"saving after jumps": func(o *Options) { o.Save, o.Seeks = "x.mp4", []Seek{{1, 2}} },
			"saving lightly":     func(o *Options) { o.Save, o.Mode = "x.mp4", Light },
		} {
			o := l.options()
			change(&o)
			if _, err := l.play(t, l.config(), o); services.KindOf(err) != services.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestTracedLink(t *testing.T) {
	began := time.Unix(1000, 0)
	trace := []sim.Period{{DurationMS: 1000, BandwidthKbps: 800, LatencyMS: 100}, {DurationMS: 1000, BandwidthKbps: 0, LatencyMS: 300}}
	for name, c := range map[string]struct {
		at     time.Duration // in the trace
		factor float64
		bytes  int
		want   time.Duration
	}{
		"half a second of it":      {0, 1, 50_000, 500 * time.Millisecond},
		"over the hole":            {0, 1, 150_000, 2500 * time.Millisecond},
		"from within the hole":     {1500 * time.Millisecond, 1, 50_000, time.Second},
		"ten times as fast":        {0, 10, 50_000, 50 * time.Millisecond},
		"ten times, over the hole": {0, 10, 150_000, 250 * time.Millisecond},
		"many rounds":              {0, 1, 1_000_000 + 50_000, 20*time.Second + 500*time.Millisecond},
	} {
		l := newTraced(trace, c.at, c.factor, began)
		if got := l.after(began, c.bytes).Sub(began); got < c.want-time.Millisecond || got > c.want+time.Millisecond {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	l := newTraced(trace, 0, 2, began)
	if got := l.latency(began.Add(600 * time.Millisecond)); got != 150*time.Millisecond {
		t.Errorf("latency %s, want 150 ms", got)
	}
	if got := l.mean(); got != 100_000 { // 50 kB/s, twice as fast
		t.Errorf("mean %g bytes/s", got)
	}
}

// TestLeanReplacesAClosedConnection has the server hang up between two requests.
func TestLeanReplacesAClosedConnection(t *testing.T) {
	t.Parallel()
	var dials atomic.Int64
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("hello"))
	})}
	ln := listen(t)
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	tr := newLean(newBuffers(), func(ctx context.Context) (c netConn, err error) {
		dials.Add(1)
		return dialTCP(ctx, ln.Addr().String())
	})
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	get := func() {
		t.Helper()
		resp, err := client.Get("http://" + ln.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		if err := newBuffers().drop(resp.Body, 5); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
	get()
	get()
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections for two requests", n)
	}
	tr.turn.Lock()
	_ = tr.conn.Close() // as if the other side had
	tr.turn.Unlock()
	get()
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connections, want another one", n)
	}
}

// TestLeanAsksOnceForAHalfAnswer has a kept connection end within an answer: the
// request was heard, and is not made again.
func TestLeanAsksOnceForAHalfAnswer(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	defer ln.Close()
	var asked atomic.Int32
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for _, answer := range []string{"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 2"} {
				if _, err := http.ReadRequest(r); err != nil {
					break
				}
				asked.Add(1)
				_, _ = io.WriteString(c, answer)
			}
			_ = c.Close()
		}
	}()
	tr := newLean(newBuffers(), func(ctx context.Context) (netConn, error) { return dialTCP(ctx, ln.Addr().String()) })
	client := &http.Client{Transport: tr}
	for _, fails := range []bool{false, true} {
		resp, err := client.Post("http://"+ln.Addr().String()+"/", "text/plain", strings.NewReader("x"))
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err != nil) != fails {
			t.Errorf("error %v", err)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times for two answers", n)
	}
	tr.CloseIdleConnections()
	_ = ln.Close()
	<-served
}

func TestLeanKeepsToItsContext(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-stuck })}
	ln := listen(t)
	go func() { _ = srv.Serve(ln) }()
	defer srv.Close()
	defer close(stuck)
	tr := newLean(newBuffers(), func(ctx context.Context) (netConn, error) { return dialTCP(ctx, ln.Addr().String()) })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ln.Addr().String()+"/", nil)
	if _, err := (&http.Client{Transport: tr}).Do(req); err == nil || ctx.Err() == nil {
		t.Errorf("error %v", err)
	}
	if !tr.turn.TryLock() {
		t.Error("the turn was not given back")
	}
}
