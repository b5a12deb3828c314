package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// notes is a log that can be read while it is written.
type notes struct {
	mu sync.Mutex
	b  strings.Builder
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.b.String(), what)
}

func TestMaxConnections(t *testing.T) {
	var log notes
	r := newRig(t, 10, func(c *Config) {
		c.MaxConnections, c.Log = 1, slog.New(slog.NewTextHandler(&log, nil))
	})
	first := dial(t, r.addr)
	br := bufio.NewReader(first)
	if resp, _ := raw(t, first, br, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	if _, err := io.WriteString(first, "GET /"); err != nil { // it is not idle
		t.Fatal(err)
	}
	for range 3 {
		next := dial(t, r.addr)
		_, _ = io.WriteString(next, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		closed(t, bufio.NewReader(next))
	}
	if n := log.count("too many connections"); n != 1 {
		t.Errorf("it is told %d times that there are too many", n)
	}
	if resp, _ := raw(t, first, br, " HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("who was connected gets %s", resp.Status)
	}
	first.Close()
	eventually(t, func() string {
		if n := r.Connections(); n != 0 {
			return fmt.Sprintf("%d connections", n)
		}
		return ""
	})
}

// Those that have asked for nothing for a while make room.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	for _, secure := range []bool{false, true} {
		change := func(*Config) {}
		if secure {
			change = withTLS(t)
		}
		r := newRig(t, 10, func(c *Config) { change(c); c.MaxConnections = 2 })
		scheme := "http://"
		if secure {
			scheme = "https://"
		}
		for range 2 {
			if resp, _ := fetch(t, client(t, false), "GET", scheme+r.addr+"/v"); resp.StatusCode != 200 {
				t.Fatal(resp.Status)
			}
		}
		eventually(t, func() string {
			resp, err := client(t, false).Get(scheme + r.addr + "/v")
			if err != nil {
				return err.Error()
			}
			resp.Body.Close()
			return ""
		})
		if n := r.Connections(); n > 2+spareMost {
			t.Errorf("%d connections", n)
		}
	}
}

func TestLeave(t *testing.T) {
	r := newRig(t, 10, nil)
	c := dial(t, r.addr)
	br := bufio.NewReader(c)
	raw(t, c, br, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.Leave()
	if late, err := net.Dial("tcp", r.addr); err == nil {
		late.Close()
		t.Error("somebody new is let in")
	}
	if resp, _ := raw(t, c, br, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 || resp.Close {
		t.Errorf("who was connected gets %s, close %v", resp.Status, resp.Close)
	}
}

// failing is a listener that has no descriptor left.
type failing struct {
	net.Listener
	tries int
}

func (l *failing) Accept() (net.Conn, error) { l.tries++; return nil, syscall.EMFILE }
func (l *failing) Close() error              { return nil }

// Out of descriptors it tries on, neither in a loop nor telling of every try.
func TestAcceptFailsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log notes
		s := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l := &failing{}
		if err := s.accept(ctx, l); err != nil {
			t.Error(err)
		}
		if l.tries < 60 || l.tries > 80 {
			t.Errorf("%d tries in a minute", l.tries)
		}
		if n := log.count("cannot accept"); n != 1 {
			t.Errorf("it is told %d times", n)
		}
	})
}

func TestSpell(t *testing.T) {
	var p spell
	at := time.Now()
	now := func() time.Time { return at }
	if !p.note(at) || p.note(at) {
		t.Error("the first is not the first alone")
	}
	if _, over := p.over(now); over {
		t.Error("it is over at once")
	}
	at = at.Add(calm)
	if n, over := p.over(now); !over || n != 2 {
		t.Errorf("after a while: %d, over %v", n, over)
	}
	if _, over := p.over(now); over {
		t.Error("it is over twice")
	}
	if !p.note(at) {
		t.Error("the next spell is not told")
	}
}
