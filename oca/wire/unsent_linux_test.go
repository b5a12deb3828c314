package wire

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// On a path inside the machine little waits in the kernel; it does no more once
// the path has shown itself longer.
func TestLittleWaitsUnsentOnAShortPath(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client := dial(t, l.Addr().String())
	defer client.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	s := New(Config{})
	if err := s.openParkers(); err != nil {
		t.Fatal(err)
	}
	defer s.closeAll()
	c := newConn(t.Context(), s, nc)
	limit := func() (n int) {
		t.Helper()
		if err := c.raw.Control(func(fd uintptr) {
			n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		}); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	const nothing = -1 // a round trip that every path is longer than
	systems := limit()
	c.fit(nothing)
	if c.path.short || limit() != systems {
		t.Errorf("a long path: short %v, %d bytes", c.path.short, limit())
	}
	c.fit(patience)
	if !c.path.short || limit() != unsentMost {
		t.Errorf("a short path: short %v, %d bytes", c.path.short, limit())
	}
	c.review(reviewEvery-1, nothing)
	if !c.path.short || limit() != unsentMost {
		t.Errorf("before it is looked at again: short %v, %d bytes", c.path.short, limit())
	}
	c.review(1, patience)
	if !c.path.short || limit() != unsentMost {
		t.Errorf("still short: short %v, %d bytes", c.path.short, limit())
	}
	c.review(reviewEvery, nothing)
	if c.path.short || limit() != systems {
		t.Errorf("longer by now: short %v, %d bytes", c.path.short, limit())
	}
}
