package wan

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/topology"
)

const rtt = 40 * time.Millisecond

func topo(rtt time.Duration, rate topology.Rate) topology.Topology {
	return topology.Topology{Links: []topology.Link{{Between: [2]string{"east", "west"}, RTT: topology.Duration(rtt), Bandwidth: rate}}}
}

// serve runs handle for each connection to a listener in region west.
func serve(t *testing.T, table *Table, handle func(net.Conn)) string {
	t.Helper()
	return serveIn(t, table, "west", handle)
}

func serveIn(t *testing.T, table *Table, region string, handle func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	table.Place(ln.Addr().String(), region)
	return ln.Addr().String()
}

func dial(t *testing.T, table *Table, addr string) net.Conn {
	t.Helper()
	c, err := table.Dialer("east")(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func roundTrip(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// TestEchoTakesTheRoundTrip is about the least that a connection takes; what it
// takes at most is told in fake time.
func TestEchoTakesTheRoundTrip(t *testing.T) {
	table := NewTable(topo(rtt, 0), nil)
	addr := serve(t, table, echo)
	start := time.Now()
	c := dial(t, table, addr)
	least := func(what string, got, want time.Duration) {
		t.Helper()
		if got < want {
			t.Errorf("%s took %v, want %v", what, got, want)
		}
	}
	least("connect", time.Since(start), rtt)
	least("echo", roundTrip(t, c), rtt)
	table.Set(topo(2*rtt, 0))
	least("echo after Set", roundTrip(t, c), 2*rtt)
}

// TestConnectTakesTheRoundTrip and not more: the time of the bubble stands
// still while the kernel connects.
func TestConnectTakesTheRoundTrip(t *testing.T) {
	table := NewTable(topo(rtt, 0), nil)
	addr := serve(t, table, echo)
	synctest.Test(t, func(t *testing.T) {
		f := flow{t: table, from: Site{Region: "east"}, addr: addr, region: "west"}
		start := time.Now()
		c, err := dialStream(t.Context(), (&net.Dialer{}).DialContext, "tcp", addr, f.path(false), f.path(true))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if took := time.Since(start); took != rtt {
			t.Errorf("connecting took %v, want %v", took, rtt)
		}
	})
}

func TestNearAndUnknownAddressesArePlain(t *testing.T) {
	table := NewTable(topo(rtt, 0), func(string) (string, bool) { return "", false })
	addr := serve(t, table, echo)
	for _, tc := range []struct {
		name, from string
		place      string
	}{{"same region", "west", "west"}, {"no link", "north", "west"}, {"unknown", "east", ""}} {
		t.Run(tc.name, func(t *testing.T) {
			table.Unplace(addr)
			if tc.place != "" {
				table.Place(addr, tc.place)
			}
			c, err := table.Dialer(tc.from)(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, ok := c.(*net.TCPConn); !ok {
				t.Errorf("got %T, want a plain *net.TCPConn", c)
			}
		})
	}
}

func TestLocatorIsAskedForTheRegion(t *testing.T) {
	var addr string
	table := NewTable(topo(rtt, 0), func(a string) (string, bool) { return "west", a == addr })
	addr = serve(t, NewTable(topology.Topology{}, nil), echo)
	if _, ok := dial(t, table, addr).(*stream); !ok {
		t.Error("an address that the locator places far away is not delayed")
	}
}

// TestALotBothWays carries more than the windows hold over real sockets.
func TestALotBothWays(t *testing.T) {
	const size = 20 << 20
	got := make(chan int64, 1)
	table := NewTable(topo(50*time.Millisecond, 0), nil)
	c := dial(t, table, serve(t, table, func(c net.Conn) {
		n, _ := io.Copy(io.Discard, c)
		got <- n
		_, _ = io.CopyN(c, zeros{}, size)
	}))
	if _, err := io.CopyN(c, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != size {
		t.Errorf("the peer got %d bytes of %d", n, size)
	}
	if n, err := io.Copy(io.Discard, c); err != nil || n != size {
		t.Errorf("read %d bytes of %d, %v", n, size, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestHalfClose(t *testing.T) {
	table := NewTable(topo(rtt, 0), nil)
	addr := serve(t, table, func(c net.Conn) {
		b, _ := io.ReadAll(c) // ends only at our FIN
		_, _ = c.Write(append([]byte("got "), b...))
	})
	c := dial(t, table, addr)
	if _, err := c.Write([]byte("all")); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "got all" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after CloseWrite: %v, want net.ErrClosed", err)
	}
}

func TestReadDeadline(t *testing.T) {
	table := NewTable(topo(rtt, 0), nil)
	c := dial(t, table, serve(t, table, echo))
	start := time.Now()
	_ = c.SetReadDeadline(start.Add(rtt / 4))
	_, err := c.Read(make([]byte, 1))
	var ne net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("got %v, want a timeout", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	roundTrip(t, c) // the connection survives a deadline
}

func TestDeadlineMovesUnderAWaitingReader(t *testing.T) {
	table := NewTable(topo(rtt, 0), nil)
	c := dial(t, table, serve(t, table, echo))
	got := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); got <- err }()
	_ = c.SetReadDeadline(time.Now())
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
}

func TestWriteDeadlineWhenThePeerDoesNotRead(t *testing.T) {
	table := NewTable(topo(rtt, 0), nil)
	stop := make(chan struct{})
	addr := serve(t, table, func(net.Conn) { <-stop })
	c := dial(t, table, addr)
	_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := io.CopyN(c, zeros{}, 256<<20)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v after %d bytes, want a timeout", err, n)
	}
	if n > 2*maxWindow {
		t.Errorf("%d bytes were taken from a writer whose peer reads none", n)
	}
	close(stop)
}

func TestBrokenPipeIsSurfaced(t *testing.T) {
	table := NewTable(topo(rtt, 0), nil)
	addr := serve(t, table, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0) // closing resets
	})
	c := dial(t, table, addr)
	deadline := time.Now().Add(soon)
	for {
		if _, err := c.Write(make([]byte, 1024)); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got a timeout: %v", err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("writes to a reset connection never fail")
		}
	}
}

func TestConnectHonoursTheContext(t *testing.T) {
	table := NewTable(topo(time.Hour, 0), nil)
	addr := serve(t, table, echo)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := table.Dialer("east")(ctx, "tcp", addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestRefusedConnectTakesTheRoundTrip(t *testing.T) {
	// The port of an open connection's near end: nobody listens on it, and
	// nobody else may be given it.
	held, err := net.Dial("tcp", serve(t, NewTable(topology.Topology{}, nil), echo))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	addr := held.LocalAddr().String()
	table := NewTable(topo(rtt, 0), nil)
	table.Place(addr, "west")
	start := time.Now()
	if _, err := table.Dialer("east")(t.Context(), "tcp", addr); err == nil {
		t.Fatal("connected to a port on which nobody listens")
	}
	if took := time.Since(start); took < rtt {
		t.Errorf("a refusal from afar took %v, want at least %v", took, rtt)
	}
}

func TestDatagrams(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(b[:n], from)
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	table := NewTable(topo(rtt, 0), nil)
	table.Place(pc.LocalAddr().String(), "west")
	c, err := table.Dialer("east")(t.Context(), "udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(net.PacketConn); !ok {
		t.Error("the connection of a udp network is not a net.PacketConn")
	}
	start := time.Now()
	for _, m := range []string{"one", "three"} {
		if _, err := c.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 64)
	for _, want := range []string{"one", "three"} {
		n, err := c.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("got %q, %v, want %q", b[:n], err, want)
		}
	}
	if took := time.Since(start); took < rtt {
		t.Errorf("took %v, want %v at least", took, rtt)
	}
	_ = c.SetReadDeadline(time.Now())
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
}
