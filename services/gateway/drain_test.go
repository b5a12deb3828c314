package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

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
	raw, err := dialAs(t.Context(), e.addr, eastClient)
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, &tls.Config{RootCAs: e.w.roots, ServerName: edgeHost, NextProtos: []string{"h2"}})
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block writer
	enc := hpack.NewEncoder(&block)
	for _, kv := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", edgeHost}, {":path", "/signup/plans"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
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

type writer []byte

func (w *writer) Write(b []byte) (int, error) { *w = append(*w, b...); return len(b), nil }
