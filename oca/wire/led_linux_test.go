package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

const ask = "GET /v HTTP/1.1\r\nHost: a\r\n\r\n"

func prompt(c *Config) { c.Prompt = true }

// guest is a raw connection to a rig.
type guest struct {
	net.Conn
	br *bufio.Reader
}

func newGuest(t *testing.T, r *rig) guest {
	t.Helper()
	c := dial(t, r.addr)
	return guest{c, bufio.NewReader(c)}
}

// get asks for the rig's file and checks it.
func (g guest) get(t *testing.T, r *rig) {
	t.Helper()
	if resp, body := raw(t, g, g.br, ask); resp.StatusCode != 200 || !bytes.Equal(body, r.body) {
		t.Fatalf("%s, %d bytes", resp.Status, len(body))
	}
}

// held counts the connections that have no goroutine of their own.
func (r *rig) held() (n int) {
	for _, p := range r.parkers {
		p.mu.Lock()
		n += len(p.conns)
		p.mu.Unlock()
	}
	return n
}

// ledOnes counts the connections that are led and wait.
func (r *rig) ledOnes() (n int) {
	for _, p := range r.parkers {
		p.mu.Lock()
		for _, c := range p.conns {
			if c.parked.Load() && c.led.wants() {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

func (r *rig) awaitLed(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() string {
		if led := r.ledOnes(); led != n {
			return fmt.Sprintf("%d connections are led, want %d", led, n)
		}
		return ""
	})
}

// newLed is a connection that has asked often enough to be led.
func newLed(t *testing.T, r *rig) guest {
	t.Helper()
	g := newGuest(t, r)
	g.get(t, r)
	before := r.ledOnes()
	for range ledAfter + 1 { // the first found the file cold, perhaps
		g.get(t, r)
	}
	r.awaitLed(t, before+1)
	return g
}

func TestLedConnectionsAnswer(t *testing.T) {
	r := newRig(t, 8<<10, prompt)
	var guests []guest
	for range 8 {
		guests = append(guests, newLed(t, r))
	}
	var wg sync.WaitGroup
	for _, g := range guests {
		wg.Go(func() {
			for range 20 {
				for _, one := range []struct {
					text   string
					status int
					body   []byte
				}{
					{ask, 200, r.body},
					{"HEAD /v HTTP/1.1\r\nHost: a\r\n\r\n", 200, nil},
					{"GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404, []byte("none\n")},
					{"GET /v HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"tag\"\r\n\r\n", 304, nil},
					{"GET /v HTTP/1.1\r\nHost: a\r\nRange: bytes=100-299\r\n\r\n", 206, r.body[100:300]},
				} {
					if _, err := io.WriteString(g, one.text); err != nil {
						t.Error(err)
						return
					}
					resp, body := readAnswer(t, g.br, methodOf(one.text))
					if resp.StatusCode != one.status || !bytes.Equal(body, one.body) {
						t.Errorf("%q: %s, %d bytes", one.text, resp.Status, len(body))
						return
					}
				}
			}
		})
	}
	wg.Wait()
	r.awaitLed(t, len(guests))
	for _, a := range r.answers() {
		if a.Err != nil {
			t.Errorf("an answer: %v", a.Err)
		}
	}
}

// Whoever takes its time does so alone.
func TestLeaderWaitsForNobody(t *testing.T) {
	r := newRig(t, 30<<10, prompt)
	other := newLed(t, r)
	// The answers that are owed when it is slow, and what ends that.
	for name, slow := range map[string]func(t *testing.T, g guest) (owed int, rest string){
		"half a head": func(t *testing.T, g guest) (int, string) {
			_, _ = io.WriteString(g, ask[:9])
			return 1, ask[9:]
		},
		"a body that does not come": func(t *testing.T, g guest) (int, string) {
			_, _ = io.WriteString(g, "GET /v HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
			return 1, "12345"
		},
		"no byte of the answers is taken": func(t *testing.T, g guest) (owed int, rest string) {
			for r.held() == 2 {
				answers := len(r.answers())
				_, _ = io.WriteString(g, ask)
				owed++
				eventually(t, func() string {
					if r.held() == 2 && len(r.answers()) == answers {
						return "it has no answer and is led"
					}
					return ""
				})
			}
			return owed, ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newLed(t, r)
			owed, rest := slow(t, g)
			for range 10 {
				other.get(t, r)
			}
			r.awaitLed(t, 1)
			_, _ = io.WriteString(g, rest)
			for range owed {
				if resp, body := readAnswer(t, g.br, "GET"); resp.StatusCode != 200 || !bytes.Equal(body, r.body) {
					t.Fatalf("the slow one: %s, %d bytes", resp.Status, len(body))
				}
			}
			g.get(t, r) // it goes on
			g.Close()
			eventually(t, func() string {
				if n := r.Connections(); n != 1 {
					return fmt.Sprintf("%d connections", n)
				}
				return ""
			})
		})
	}
}

// dozing is slow at one path until it is woken.
type dozing struct {
	*fixed
	wake chan struct{}
}

func (d dozing) Serve(r *Request, a *Answer) {
	if r.Path == "/slow" {
		r.Slow()
		<-d.wake
	}
	d.fixed.Serve(r, a)
}

func TestSlowHandlersHoldUpNobody(t *testing.T) {
	d := dozing{wake: make(chan struct{})}
	r := newRig(t, 1000, func(c *Config) {
		d.fixed = c.Handler.(*fixed)
		c.Handler, c.Prompt = d, true
	})
	first, second := newLed(t, r), newLed(t, r)
	if _, err := io.WriteString(first, strings.Replace(ask, "/v", "/slow", 1)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		second.get(t, r)
	}
	close(d.wake)
	if resp, body := readAnswer(t, first.br, "GET"); resp.StatusCode != 200 || !bytes.Equal(body, r.body) {
		t.Errorf("the slow one: %s, %d bytes", resp.Status, len(body))
	}
}

// Requests that come before the answer to the one before are answered in order.
func TestLedConnectionsMayPipeline(t *testing.T) {
	r := newRig(t, 1000, prompt)
	g := newLed(t, r)
	const many = 50
	if _, err := io.WriteString(g, strings.Repeat(ask+strings.Replace(ask, "/v", "/none", 1), many)); err != nil {
		t.Fatal(err)
	}
	for n := range 2 * many {
		resp, _ := readAnswer(t, g.br, "GET")
		if want := []int{200, 404}[n%2]; resp.StatusCode != want {
			t.Fatalf("answer %d is %s, want %d", n, resp.Status, want)
		}
	}
}

// Large answers have goroutines of their own, and those who ask for them.
func TestLargeAnswersAreNotLed(t *testing.T) {
	r := newRig(t, ledMost+1, prompt)
	g := newGuest(t, r)
	for range 2 * ledAfter {
		g.get(t, r)
		if n := r.ledOnes(); n != 0 {
			t.Fatal("it is led")
		}
	}
}

func TestLedConnectionsEnd(t *testing.T) {
	gone := func(t *testing.T, r *rig) {
		t.Helper()
		eventually(t, func() string {
			if n := r.Connections(); n != 0 {
				return fmt.Sprintf("%d connections are left", n)
			}
			return ""
		})
		for _, p := range r.parkers {
			p.mu.Lock()
			if len(p.conns) != 0 {
				t.Errorf("%d connections are kept", len(p.conns))
			}
			p.mu.Unlock()
		}
	}
	t.Run("by the client", func(t *testing.T) {
		r := newRig(t, 1000, prompt)
		newLed(t, r).Close()
		gone(t, r)
	})
	t.Run("as the client asks", func(t *testing.T) {
		r := newRig(t, 1000, prompt)
		g := newLed(t, r)
		raw(t, g, g.br, "GET /v HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		closed(t, g.br)
		g.Close()
		gone(t, r)
	})
	t.Run("by a drain", func(t *testing.T) {
		r := newRig(t, 1000, prompt)
		g := newLed(t, r)
		r.Drain()
		r.Await(patience)
		closed(t, g.br)
		gone(t, r)
	})
	t.Run("for no request comes", func(t *testing.T) {
		r := newRig(t, 1000, func(c *Config) { c.Prompt, c.IdleTimeout = true, 2*time.Second })
		g := newLed(t, r)
		closed(t, g.br)
		gone(t, r)
	})
	t.Run("by what is no request", func(t *testing.T) {
		r := newRig(t, 1000, prompt)
		g := newLed(t, r)
		if resp, _ := raw(t, g, g.br, "GET /v\r\n\r\n"); resp.StatusCode != 400 {
			t.Error(resp.Status)
		}
		closed(t, g.br)
		g.Close()
		gone(t, r)
	})
}
