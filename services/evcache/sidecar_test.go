package evcache

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

// beside is a memcached with a sidecar.
type beside struct {
	sidecar *Sidecar
	tel     *telemetry.Telemetry
	changes chan bool
}

// newBeside starts a sidecar of the memcached at target and waits until that
// serves.
func newBeside(t testing.TB, target string) *beside {
	t.Helper()
	b := &beside{tel: telemetry.Discard(), changes: make(chan bool, 16)}
	var err error
	if b.sidecar, err = NewSidecar(SidecarConfig{Target: target, Tel: b.tel, OnHealth: func(up bool) { b.changes <- up }}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.sidecar.Serve(ctx) }()
	t.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}))
	ready, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := b.sidecar.Ready(ready); err != nil {
		t.Fatal(err)
	}
	b.change(t, true)
	return b
}

// change waits until memcached counts as up, or as down.
func (b *beside) change(t testing.TB, up bool) {
	t.Helper()
	for late := time.After(patience); ; {
		select {
		case got := <-b.changes:
			if got == up {
				return
			}
		case <-late:
			t.Fatalf("nobody noticed that memcached is up: %v", up)
		}
	}
}

// shows checks that the sidecar's figures are those of a memcached that was
// used, all of them. A memcached that answers late shows none for once.
func (b *beside) shows(t testing.TB, name string, least float64) {
	t.Helper()
	for until := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		v, n := telemetrytest.Metric(t, b.tel.Metrics, name, nil)
		if n == 1 && v >= least {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s = %v in %d series, want %v at least", name, v, n, least)
		}
	}
}

// The sidecar shows what the embedded server shows of itself, name by name.
func TestSidecarShowsWhatTheServerShows(t *testing.T) {
	n := newNode(t, "127.0.0.1:0", 0)
	b := newBeside(t, n.addr)
	c := newClient(t, Config{}, Node{Addr: n.addr, Zone: "a"})
	if err := c.Set(t.Context(), "k", []byte("v"), 0); err != nil {
		t.Fatal(err)
	}
	want(t, c, "k", "v")
	if _, err := c.Get(t.Context(), "none"); err == nil {
		t.Fatal("nothing was found")
	}
	for _, m := range allShown() {
		own, series := telemetrytest.Metric(t, n.tel.Metrics, m.metric, nil)
		if series != 1 {
			t.Errorf("%s: the server itself shows it in %d series", m.metric, series)
		}
		if m.stat == "curr_connections" {
			// The client's and the question's own; those of questions before
			// leave the server some time after their answers.
			if own < 1 {
				t.Errorf("the server itself counts %v connections", own)
			}
			b.shows(t, m.metric, 2)
			continue
		}
		telemetrytest.Await(t, b.tel.Metrics, m.metric, nil, own)
	}
	b.shows(t, "memcached_get_hits_total", 1)
}

func TestSidecarFollowsItsMemcached(t *testing.T) {
	n := newNode(t, addresstest.Host(t)+":0", 0)
	b := newBeside(t, n.addr)
	n.stop()
	b.change(t, false)
	if b.sidecar.Healthy() {
		t.Error("memcached is gone, but counts as up")
	}
	if _, series := telemetrytest.Metric(t, b.tel.Metrics, "memcached_bytes", nil); series != 0 {
		t.Error("figures of a memcached that is gone")
	}
	newNode(t, n.addr, 0)
	b.change(t, true)
}

func TestSidecarRefusesBadConfig(t *testing.T) {
	if _, err := NewSidecar(SidecarConfig{}); services.KindOf(err) != services.Invalid {
		t.Errorf("got %v", err)
	}
}
