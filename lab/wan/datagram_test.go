package wan

import (
	"net"
	"runtime"
	"testing"
)

// A player opens a socket for each name that it resolves: one after another they
// pass on a buffer, which is as long as the longest datagram.
func TestDatagramSocketsShareBuffers(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	table := NewTable(topo(rtt, 0), nil)
	table.Place(pc.LocalAddr().String(), "west")
	const sockets = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range sockets {
		c, err := table.Dialer("east")(t.Context(), "udp", pc.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.(*datagram); !ok {
			t.Fatalf("it is a %T, not shaped", c)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	// Under the race detector a pool forgets every fourth.
	if each := (after.TotalAlloc - before.TotalAlloc) / sockets; each > maxDatagram/2 {
		t.Errorf("a socket allocates %d bytes", each)
	}
}
