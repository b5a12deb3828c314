package gateway

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/flix-lab/flix/topology"
)

// counting is a client that counts the connections it makes.
func counting(e *edge, h2 bool) (*http.Client, *atomic.Int64) {
	c := e.client(eastClient, h2)
	n := new(atomic.Int64)
	tr := c.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return dial(ctx, network, addr)
	}
	return c, n
}

func TestDrainMakesClientsConnectAnew(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		e := newWorld(t).gateway("us-east")
		e.api("signup", "us-east/a/signup/1", echo("signup"))
		c, conns := counting(e, h2)
		get := func() answer {
			t.Helper()
			return ask(t, c, "GET", "/signup/plans", "")
		}
		get()
		get()
		if n := conns.Load(); n != 1 {
			t.Fatalf("h2=%t: %d connections for two requests", h2, n)
		}
		e.set(PropertyDrain, "on")
		if a := get(); a.StatusCode != 200 || (!h2 && !a.Close) {
			t.Errorf("h2=%t: status %d, close %t", h2, a.StatusCode, a.Close)
		}
		for want := int64(2); want < 4; want++ {
			// The client may take a moment to read the GOAWAY.
			eventually(t, "a connection of its own", func() bool { get(); return conns.Load() >= want })
		}
		e.set(PropertyDrain, "")
		get()
		eventually(t, "connections are kept again", func() bool {
			before := conns.Load()
			get()
			return conns.Load() == before
		})
	}
}

func TestOldConnectionsRetire(t *testing.T) {
	e := newWorld(t).gateway("us-east", func(d *Deps) { d.Timing.MaxConnectionAge = topology.Duration(time.Nanosecond) })
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	c, conns := counting(e, false)
	for range 3 {
		ask(t, c, "GET", "/signup/plans", "")
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections for three requests, want each to retire", n)
	}
}

// TestDrainSendsGoAway reads the frames: a client library hides them.
func TestDrainSendsGoAway(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.set(PropertyDrain, "on")
	f := e.framer(t)
	writeHead(t, f, true, ":method", "GET", ":scheme", "https", ":authority", edgeHost, ":path", "/signup/plans")
	var goAway, answer bool
	for !goAway || !answer {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("answer %t, GOAWAY %t: %v", answer, goAway, err)
		}
		switch fr := fr.(type) {
		case *http2.GoAwayFrame:
			goAway = true
		case *http2.DataFrame:
			answer = answer || fr.StreamEnded()
		}
	}
}
