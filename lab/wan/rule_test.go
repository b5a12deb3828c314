package wan

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/flix-lab/flix/topology"
)

// placedEcho answers what it is sent, on a socket that a table places somewhere.
func placedEcho(t *testing.T, table *Table, region string) string {
	t.Helper()
	return serveIn(t, table, region, echo)
}

// ping sends a byte and waits that long for its echo.
func ping(c net.Conn, patience time.Duration) (time.Duration, error) {
	start := time.Now()
	if _, err := c.Write([]byte("x")); err != nil {
		return 0, err
	}
	if err := c.SetReadDeadline(start.Add(patience)); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return time.Since(start), err
}

func side(region string, addrs ...string) Side {
	s := Side{Site: Site{Region: region}}
	for _, a := range addrs {
		if s.Addrs == nil {
			s.Addrs = map[string]bool{}
		}
		s.Addrs[a] = true
	}
	return s
}

// soon only bounds a test that would hang.
const soon = time.Minute

func until() time.Time { return time.Now().Add(time.Hour) }

func dialNow(t *testing.T, table *Table, from Site, addr string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	c, err := table.DialerAt(from)(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestRuleDelays adds a delay between two instances of one region, for those
// and no others, on new connections and on those that were delayed before.
func TestRuleDelays(t *testing.T) {
	table := NewTable(topology.Topology{}, nil)
	addr := placedEcho(t, table, "east")
	a, b := Site{Region: "east", Instance: "a"}, Site{Region: "east", Instance: "b"}
	plain := dialNow(t, table, a, addr)
	const delay = 60 * time.Millisecond
	rule := Rule{A: Side{Site: Site{Instance: "a"}}, B: side("", addr), Until: until(), Delay: delay}
	table.Impose([]Rule{rule})
	if _, err := ping(plain, soon); err == nil {
		t.Error("a plain connection goes on as if nothing were")
	}
	slow, fast := dialNow(t, table, a, addr), dialNow(t, table, b, addr)
	if d, err := ping(slow, soon); err != nil || d < 2*delay {
		t.Errorf("a round trip between the two took %s (%v), want at least %s", d, err, 2*delay)
	}
	if _, err := ping(fast, soon); err != nil {
		t.Error(err)
	}
	if _, ok := fast.(*net.TCPConn); !ok {
		t.Errorf("a connection that no rule is about is a %T", fast)
	}
	table.Impose(nil)
	if _, err := ping(slow, soon); err != nil {
		t.Errorf("the connection does not outlive the rule: %v", err)
	}
}

// TestHoleIsLifted: a hole swallows what is sent and gives it back when it is
// lifted before its time. TestHoleLapses is about its time.
func TestHoleIsLifted(t *testing.T) {
	table := NewTable(topology.Topology{Links: []topology.Link{{Between: [2]string{"east", "west"}, RTT: topology.Duration(time.Millisecond)}}}, nil)
	addr := placedEcho(t, table, "east")
	c := dialNow(t, table, Site{Region: "west"}, addr)
	table.Impose([]Rule{{A: side("west"), B: side("east"), Until: until(), Hole: true}})
	if _, err := ping(c, 30*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("something came through a hole: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if c, err := table.Dialer("west")(ctx, "tcp", addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dialling through a hole gives %v, %v", c, err)
	}
	table.Impose(nil)
	// The byte that the hole swallowed comes first.
	_ = c.SetDeadline(time.Now().Add(soon))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatalf("what was swallowed does not come: %v", err)
	}
	if _, err := ping(c, soon); err != nil {
		t.Error(err)
	}
}

// TestOneWay loses one direction only: what the other side sends still arrives.
func TestOneWay(t *testing.T) {
	table := NewTable(topology.Topology{Links: []topology.Link{{Between: [2]string{"east", "west"}, RTT: topology.Duration(time.Millisecond)}}}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	table.Place(l.Addr().String(), "east")
	c := dialNow(t, table, Site{Region: "west"}, l.Addr().String())
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	table.Impose([]Rule{{A: side("west"), B: side("east"), OneWay: true, Until: until(), Cut: true}})
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = peer.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the direction that is cut lets something through: %v", err)
	}
	if _, err := peer.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the other direction is cut as well: %v", err)
	}
	table.Impose(nil)
	_ = peer.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil {
		t.Errorf("what was lost is not sent again: %v", err)
	}
}

// TestReset resets what is open and what is dialled.
func TestReset(t *testing.T) {
	table := NewTable(topology.Topology{}, nil)
	addr := placedEcho(t, table, "east")
	c := dialNow(t, table, Site{Region: "east", ISP: "net"}, addr)
	table.Impose([]Rule{{A: Side{Site: Site{ISP: "net"}}, B: Side{}, Until: until(), Reset: 1}})
	if _, err := ping(c, soon); err == nil {
		t.Error("an open connection was not reset")
	}
	if _, err := table.DialerAt(Site{Region: "east", ISP: "net"})(t.Context(), "tcp", addr); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("dialling gives %v, want a reset", err)
	}
	if other, err := table.DialerAt(Site{Region: "east", ISP: "other"})(t.Context(), "tcp", addr); err != nil {
		t.Errorf("another ISP's client is reset: %v", err)
	} else {
		other.Close()
	}
}

// TestWays tells which flows lie between two sides.
func TestWays(t *testing.T) {
	const x, y = "127.0.0.1:1", "127.0.0.1:2" // of a and of b, both in the east
	a, b := Side{Site: Site{Instance: "a"}, Addrs: map[string]bool{x: true}}, Side{Site: Site{Instance: "b"}, Addrs: map[string]bool{y: true}}
	east, west, rest := side("east"), side("west"), Side{}
	isp := Side{Site: Site{ISP: "net"}, Addrs: map[string]bool{x: true}}
	for _, c := range []struct {
		name    string
		rule    Rule
		from    Site
		addr    string
		region  string
		out, in bool
	}{
		{"forth", Rule{A: a, B: b}, Site{Region: "east", Instance: "a"}, y, "east", true, true},
		{"back", Rule{A: a, B: b}, Site{Region: "east", Instance: "b"}, x, "east", true, true},
		{"one way, dialled by it", Rule{A: a, B: b, OneWay: true}, Site{Region: "east", Instance: "a"}, y, "east", true, false},
		{"one way, dialled by the other", Rule{A: a, B: b, OneWay: true}, Site{Region: "east", Instance: "b"}, x, "east", false, true},
		{"a stranger", Rule{A: a, B: b}, Site{Region: "east", Instance: "c"}, y, "east", false, false},
		{"regions", Rule{A: east, B: west}, Site{Region: "west", Instance: "c"}, x, "east", true, true},
		{"within a region", Rule{A: east, B: west}, Site{Region: "east", Instance: "a"}, y, "east", false, false},
		{"a region and the rest", Rule{A: east, B: rest}, Site{Region: "west"}, x, "east", true, true},
		{"within it", Rule{A: east, B: rest}, Site{Region: "east"}, x, "east", false, false},
		{"within the rest", Rule{A: east, B: rest}, Site{Region: "west"}, "127.0.0.1:3", "south", false, false},
		{"an ISP's client to its own appliance", Rule{A: isp, B: east}, Site{Region: "east", ISP: "net"}, x, "east", false, false},
		{"an ISP's client to the region", Rule{A: isp, B: east}, Site{Region: "north", ISP: "net"}, y, "east", true, true},
	} {
		if out, in := c.rule.way(c.from, c.addr, c.region); out != c.out || in != c.in {
			t.Errorf("%s: out %v, in %v, want %v, %v", c.name, out, in, c.out, c.in)
		}
	}
}

// TestLossDelaysStreams: with every packet lost as often as may be, a byte comes
// late, and comes.
func TestLossDelaysStreams(t *testing.T) {
	p := Path{loss: 1}
	if d := resent(p, 1); d < minRTO*(1<<maxResent-1) {
		t.Errorf("a packet lost %d times in a row is late by %s", maxResent, d)
	}
	if d := resent(Path{loss: 1e-12}, 1); d != 0 {
		t.Errorf("a packet that is not lost is late by %s", d)
	}
}

// TestRuleDuringDial: a rule that comes while a plain connection is made finds
// it.
func TestRuleDuringDial(t *testing.T) {
	table := NewTable(topology.Topology{}, nil)
	addr := placedEcho(t, table, "east")
	raw, err := net.Dial("tcp", addr) // as the dialer does before anything is known of a rule
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	table.Impose([]Rule{{A: side("east"), B: Side{}, Until: until(), Delay: time.Hour}})
	table.crosses(raw, open{flow: flow{t: table, from: Site{Region: "west"}, addr: addr, region: "east"}})
	if _, err := ping(raw, soon); err == nil {
		t.Error("it goes on as if nothing were")
	}
}
