package wan

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/flix-lab/flix/topology"
)

func far(rtt time.Duration) topology.Topology {
	return topology.Topology{Links: []topology.Link{{Between: [2]string{"east", "west"}, RTT: topology.Duration(rtt)}}}
}

// TestSever cuts two regions apart: what is open breaks, what is dialled waits,
// and both directions heal, by order or by the end of the cut.
func TestSever(t *testing.T) {
	for _, rtt := range []time.Duration{0, 2 * time.Millisecond} {
		table := NewTable(far(rtt), nil)
		addr := serve(t, table, echo)
		dial := table.Dialer("east")
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		open, err := dial(ctx, "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()
		if _, err := open.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		near, err := table.Dialer("west")(ctx, "tcp", addr) // inside the region
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()

		table.Sever([]Cut{{Between: [2]string{"west", "east"}, Until: time.Now().Add(time.Hour)}})
		if _, err := open.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("rtt %s: a connection across the cut reads %v, want it broken", rtt, err)
		}
		short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		if c, err := dial(short, "tcp", addr); !errors.Is(err, context.DeadlineExceeded) {
			if err == nil {
				c.Close()
			}
			t.Errorf("rtt %s: a dial across the cut ends with %v, want no answer", rtt, err)
		}
		stop()
		if _, err := near.Write([]byte("y")); err != nil {
			t.Errorf("rtt %s: a connection inside a region broke: %v", rtt, err)
		}

		healed := make(chan error, 1)
		go func() {
			c, err := dial(ctx, "tcp", addr)
			if err == nil {
				c.Close()
			}
			healed <- err
		}()
		table.Sever(nil)
		if err := <-healed; err != nil {
			t.Errorf("rtt %s: a dial that waited for the end of the cut: %v", rtt, err)
		}
		table.Sever([]Cut{{Between: [2]string{"east", "west"}, Until: time.Now().Add(60 * time.Millisecond)}})
		c, err := dial(ctx, "tcp", addr)
		if err != nil {
			t.Fatalf("rtt %s: a dial beyond the end of a cut: %v", rtt, err)
		}
		c.Close()
	}
}

// TestProxyCarriesAndRefuses runs a proxy between two addresses of regions.
func TestProxyCarriesAndRefuses(t *testing.T) {
	const rtt = 40 * time.Millisecond
	table := NewTable(far(rtt), nil)
	addr := serve(t, table, echo)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	from := "east"
	p := Proxy{Listener: l, Target: addr, From: regionFunc(&from), Dial: table.Dialer, Log: discard()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()

	began := time.Now()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 2*rtt { // one to connect, one for the echo
		t.Errorf("a connection and an echo took %s over %s", took, rtt)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlives its proxy")
	}
}

func regionFunc(region *string) func(netip.Addr) (string, bool) {
	return func(netip.Addr) (string, bool) { return *region, *region != "" }
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
