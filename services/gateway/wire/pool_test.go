package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// pooling is a pool of connections to whatever address is asked.
func pooling(t *testing.T) *Pool {
	p := NewPool(PoolConfig{
		Dial: new(net.Dialer).DialContext, MaxIdle: 4, Idle: time.Minute, MaxHeader: 64 << 10, ContinueAfter: time.Second, Buffers: NewBuffers(),
	})
	t.Cleanup(p.Close)
	return p
}

// send makes one request within limit, and returns the answer's body.
func send(t *testing.T, p *Pool, addr, method, body string, limit time.Duration) (string, error) {
	t.Helper()
	now := time.Now()
	resp := new(Response)
	err := p.Send(t.Context(), &Request{
		Addr: addr, Method: method, Target: "/", Host: "api", Whole: []byte(body), ContentLength: int64(len(body)), Start: now, Deadline: now.Add(limit),
	}, resp)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("the answer's body: %v", err)
	}
	return string(b), resp.Body.Close()
}

// listening calls serve with each connection to an address.
func listening(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// spoken waits until something has come in on a connection.
func spoken(t *testing.T, c net.Conn) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for p := newProbe(raw); p.nothing(); {
		runtime.Gosched()
	}
}

// What a server says or does before it is asked is no answer. Nothing has been
// sent by then, so that any request may go elsewhere.
func TestServersThatSpeakUnasked(t *testing.T) {
	if !hasSockets {
		t.Skip("it is not looked for here")
	}
	for name, first := range map[string]string{"an answer": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse", "an end": ""} {
		p := pooling(t)
		addr := listening(t, func(c net.Conn) { _, _ = io.WriteString(c, first); _ = c.Close() })
		p.conf.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				spoken(t, c)
			}
			return c, err
		}
		got, err := send(t, p, addr, "POST", "", time.Minute)
		var ce *ConnectError
		if !errors.As(err, &ce) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A connection that ended, or spoke, while it was idle is not used again; a
// request of any method goes over another one.
func TestIdleConnectionsThatEnd(t *testing.T) {
	for _, last := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse"} {
		p := pooling(t)
		var conns atomic.Int32
		addr := listening(t, func(c net.Conn) {
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
			}
			conns.Add(1)
			if last == "" {
				_ = c.Close()
				return
			}
			_, _ = io.WriteString(c, last)
			t.Cleanup(func() { _ = c.Close() })
		})
		for n, method := range []string{"GET", "POST", "POST"} {
			body := strings.Repeat("x", n/2)
			if got, err := send(t, p, addr, method, body, time.Minute); got != "true" || err != nil {
				t.Errorf("%q: request %d: %q, %v", last, n, got, err)
			}
			if h := p.host(addr); h != nil {
				h.mu.Lock()
				for _, l := range h.idle {
					spoken(t, l.nc)
				}
				h.mu.Unlock()
			}
		}
		if n := conns.Load(); n != 3 {
			t.Errorf("%q: 3 requests over %d connections", last, n)
		}
	}
}

// peerOf is an HTTP server that says which connection of its a request came on.
func peerOf(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, r.RemoteAddr)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// A request with a body bounds how long the server may take it. The next request
// on the connection has its own time.
func TestDeadlinesEndWithTheirRequest(t *testing.T) {
	p, addr := pooling(t), peerOf(t)
	limit := 300 * time.Millisecond
	for _, method := range []string{"GET", "POST"} {
		until := time.Now().Add(limit)
		first, err := send(t, p, addr, "POST", "body", limit)
		for errors.Is(err, ErrDeadline) && limit < time.Minute { // a machine that stood still needs a longer one
			limit *= 4
			until = time.Now().Add(limit)
			first, err = send(t, p, addr, "POST", "body", limit)
		}
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Until(until.Add(limit / 4)))
		body := ""
		if method == "POST" {
			body = strings.Repeat("x", 2*largeBuffer)
		}
		second, err := send(t, p, addr, method, body, time.Minute)
		if err != nil || second != first {
			t.Errorf("%s after a POST whose deadline is over: %v, over %s and %s", method, err, first, second)
		}
	}
}
