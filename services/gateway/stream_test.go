package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/gateway/wire"
)

// raw is a client that writes bytes and reads answers.
type raw struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (e *edge) raw(t *testing.T) *raw {
	t.Helper()
	c, err := net.Dial("tcp", e.plainAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(4 * patience))
	return &raw{t, c, bufio.NewReader(c)}
}

func (r *raw) send(format string, args ...any) {
	r.t.Helper()
	if _, err := fmt.Fprintf(r, format, args...); err != nil {
		r.t.Fatal(err)
	}
}

// answer reads one final answer with its body.
func (r *raw) answer(method string) (*http.Response, string) {
	r.t.Helper()
	resp, err := http.ReadResponse(r.r, &http.Request{Method: method})
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(b)
}

// plainGet is a whole request that may be followed by another.
const plainGet = "GET /signup/x HTTP/1.1\r\nHost: api.flix.test\r\n\r\n"

func TestPieceOfAKnownLengthGoesOutAtOnce(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		e := newWorld(t).gateway("us-east")
		more := make(chan struct{})
		e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "6")
			_, _ = io.WriteString(w, "one")
			_ = http.NewResponseController(w).Flush()
			<-more
			_, _ = io.WriteString(w, "two")
		})
		resp, err := e.client(eastClient, h2).Get("https://" + edgeHost + "/signup/x")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 3)
		_, err = io.ReadFull(resp.Body, b)
		close(more)
		if err != nil || string(b) != "one" {
			t.Fatalf("h2=%t: %q, %v", h2, b, err)
		}
		if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two" {
			t.Errorf("h2=%t: %q, %v", h2, rest, err)
		}
		_ = resp.Body.Close()
	}
}

// TestBothWaysAtOnce echoes 8 MiB while it is still being sent: neither side
// may wait for the other's end.
func TestBothWaysAtOnce(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = rc.Flush()
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				if _, err := w.Write(buf[:n]); err != nil {
					return
				}
				_ = rc.Flush()
			}
			if err != nil {
				return
			}
		}
	})
	const size = 8 << 20
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for _, known := range []bool{true, false} {
		c := e.raw(t)
		if known {
			c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", size)
		} else {
			c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		}
		sent := make(chan error, 1)
		go func() {
			var err error
			for off := 0; off < size && err == nil; off += 32 << 10 {
				if !known {
					_, err = io.WriteString(c, "8000\r\n")
				}
				if err == nil {
					_, err = c.Write(data[off : off+32<<10])
				}
				if err == nil && !known {
					_, err = io.WriteString(c, "\r\n")
				}
			}
			if err == nil && !known {
				_, err = io.WriteString(c, "0\r\n\r\n")
			}
			sent <- err
		}()
		_, got := c.answer("POST")
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256([]byte(got)) != sha256.Sum256(data) {
			t.Errorf("known length %t: %d bytes come back, not the same", known, len(got))
		}
		c.send(plainGet) // the connection is still in order
		if resp, _ := c.answer("GET"); resp.StatusCode != http.StatusOK {
			t.Errorf("known length %t: the next request gets %s", known, resp.Status)
		}
	}
}

func TestInterimAnswersPassThrough(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "late")
	})
	for _, h2 := range []bool{false, true} {
		var hints atomic.Int64
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints && h.Get("Link") == "</style.css>; rel=preload" {
				hints.Add(1)
			}
			return nil
		}})
		req, err := http.NewRequestWithContext(ctx, "GET", "https://"+edgeHost+"/signup/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.client(eastClient, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(b) != "late" || hints.Load() != 1 || resp.Header.Get("Link") != "" {
			t.Errorf("h2=%t: %q, %d hints, header %v, %v", h2, b, hints.Load(), resp.Header, err)
		}
	}
}

func TestExpectContinue(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/signup/no" {
			w.WriteHeader(http.StatusForbidden) // without reading the body
			return
		}
		echo("signup")(w, r)
	})
	c := e.raw(t)
	c.send("POST /signup/yes HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	if line, err := c.r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, _ = c.r.ReadString('\n')
	c.send("body")
	if resp, body := c.answer("POST"); resp.StatusCode != 200 || !strings.Contains(body, `"Body":"body"`) || resp.Close {
		t.Errorf("%s %s", resp.Status, body)
	}
	c.send("POST /signup/no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	resp, _ := c.answer("POST")
	if resp.StatusCode != http.StatusForbidden || !resp.Close {
		t.Errorf("a refusal instead of leave: %s, close %t", resp.Status, resp.Close)
	}
	c = e.raw(t)
	c.send("POST /signup/yes HTTP/1.1\r\nHost: h\r\nExpect: gold\r\nContent-Length: 4\r\n\r\n")
	if resp, _ := c.answer("POST"); resp.StatusCode != http.StatusExpectationFailed {
		t.Errorf("an unknown expectation: %s", resp.Status)
	}
}

// TestGoneClientEndsTheCall closes a client while the API is at work.
func TestGoneClientEndsTheCall(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	e.api("signup", "us-east/a/signup/1", func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	for name, leave := range map[string]func(*raw){
		"close": func(c *raw) { _ = c.Close() },
		"reset": func(c *raw) { _ = c.Conn.(*net.TCPConn).SetLinger(0); _ = c.Close() },
	} {
		c := e.raw(t)
		c.send(plainGet)
		<-began
		leave(c)
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("%s: the API is still at work", name)
		}
	}
	eventually(t, "nothing is in flight", func() bool { return e.Edge().InFlight == 0 })
}

// TestHalfClosedClientGetsItsAnswer ends the client's sending, as "nc -N" does.
func TestHalfClosedClientGetsItsAnswer(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	c := e.raw(t)
	c.send(plainGet)
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	if resp, body := c.answer("GET"); resp.StatusCode != 200 || !strings.Contains(body, `"By":"signup"`) {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// TestConnectionIsKeptAfterEveryKindOfAnswer sends all on one connection.
func TestConnectionIsKeptAfterEveryKindOfAnswer(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		switch strings.TrimPrefix(r.URL.Path, "/signup/") {
		case "204":
			w.WriteHeader(http.StatusNoContent)
		case "304":
			w.Header().Set("Etag", `"1"`)
			w.WriteHeader(http.StatusNotModified)
		case "chunks":
			for range 3 {
				_, _ = io.WriteString(w, "chunk")
				_ = http.NewResponseController(w).Flush()
			}
		case "empty":
			w.Header().Set("Content-Length", "0")
		case "large":
			_, _ = w.Write(make([]byte, 200<<10))
		case "early":
			w.WriteHeader(http.StatusConflict) // the body unread
		default:
			b, _ := io.ReadAll(r.Body)
			_, _ = w.Write(b)
		}
	})
	c := e.raw(t)
	body := strings.Repeat("b", 3000)
	for _, tt := range []struct {
		method, path, body string
		status, length     int
	}{
		{"GET", "204", "", 204, 0}, {"GET", "304", "", 304, 0}, {"GET", "chunks", "", 200, 15}, {"HEAD", "chunks", "", 200, 0},
		{"HEAD", "large", "", 200, 0}, {"GET", "large", "", 200, 200 << 10}, {"GET", "empty", "", 200, 0}, {"POST", "echo", body, 200, len(body)},
		{"POST", "early", body, 409, 0}, {"GET", "../../nowhere", "", 400, -1}, {"DELETE", "echo", "", 200, 0}, {"OPTIONS", "echo", "", 200, 0},
	} {
		c.send("%s /signup/%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", tt.method, tt.path, len(tt.body), tt.body)
		resp, got := c.answer(tt.method)
		if resp.StatusCode != tt.status || tt.length >= 0 && len(got) != tt.length || resp.Close {
			t.Errorf("%s %s: %s, %d bytes, close %t; want %d, %d bytes", tt.method, tt.path, resp.Status, len(got), resp.Close, tt.status, tt.length)
		}
		if tt.status == 204 && resp.Header.Get("Content-Length") != "" || tt.status == 304 && resp.Header.Get("Etag") == "" {
			t.Errorf("%d: %v", tt.status, resp.Header)
		}
	}
	c.send("%s", strings.Repeat(plainGet, 5)) // pipelined
	for range 5 {
		if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
			t.Errorf("pipelined: %s", resp.Status)
		}
	}
}

func TestHTTP10(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "one")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "two")
	})
	c := e.raw(t)
	c.send("GET /signup/x HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(c.r)
	if err != nil || !strings.HasSuffix(string(b), "\r\n\r\nonetwo") || strings.Contains(string(b), "chunked") {
		t.Errorf("%q, %v", b, err)
	}
}

// TestDeadPooledConnectionsAreNotUsed has an origin that ends each connection
// after one answer, without saying so.
func TestDeadPooledConnectionsAreNotUsed(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	var conns atomic.Int64
	e.registry.add("signup", "us-east/a/signup/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		readRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}))
	c := e.raw(t)
	for range 20 {
		c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
		if resp, body := c.answer("POST"); resp.StatusCode != 200 && resp.StatusCode != 504 || resp.StatusCode == 200 && body != "ok" {
			t.Fatalf("%s %s", resp.Status, body)
		}
		c.send(plainGet) // idempotent: never fails
		if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
}

// TestUnaskedBytesNeverReachAnotherClient has an origin that says more than it
// was asked: the rest must not become the next client's answer.
func TestUnaskedBytesNeverReachAnotherClient(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	said := make(chan struct{}, 64)
	e.registry.add("signup", "us-east/a/signup/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			said <- struct{}{}
		}
	}))
	for range 20 {
		c := e.raw(t)
		c.send(plainGet)
		if _, body := c.answer("GET"); body != "good" {
			t.Fatalf("the client reads %q", body)
		}
		<-said
	}
}

// TestSlowBodyEnds sends half a body and no more.
func TestSlowBodyEnds(t *testing.T) {
	e := newWorld(t).bounded("us-east", func(l *wire.Limits) { l.Body, l.Linger = 200*time.Millisecond, time.Second })
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	c := e.raw(t)
	c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
	resp, _ := c.answer("POST")
	if resp.StatusCode != http.StatusRequestTimeout && resp.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("half a body gets %s", resp.Status)
	}
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is kept: %v", err)
	}
}

// An answer that lasts as long as somebody listens takes no place among the
// requests that an API may have at once, and clients do not hear of its mark.
func TestHeldAnswersTakeNoPlace(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.set(PropertyConcurrency, "1")
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/signup/stream" {
			return
		}
		w.Header().Set(api.HeaderHeld, "1")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+edgeHost+"/signup/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.client(eastClient, true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get(api.HeaderHeld) != "" {
			t.Errorf("%s, marked %q", resp.Status, resp.Header.Get(api.HeaderHeld))
		}
	}
	if a := ask(t, e.client(eastClient, true), "GET", "/signup/plans", ""); a.StatusCode != http.StatusOK {
		t.Errorf("beside three streams: %s", a.Status)
	}
}

// The head of an answer does not wait for its body: who follows a stream knows
// that it has begun before anything happens.
func TestHeadComesBeforeTheBody(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	end := make(chan struct{})
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-end:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "data: 1\n\n")
	})
	for _, h2 := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+edgeHost+"/signup/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := e.client(eastClient, h2).Do(req)
		if err != nil {
			t.Errorf("h2=%t: %v", h2, err)
			cancel()
			continue
		}
		end <- struct{}{}
		if b, err := io.ReadAll(resp.Body); string(b) != "data: 1\n\n" || err != nil {
			t.Errorf("h2=%t: %q, %v", h2, b, err)
		}
		_ = resp.Body.Close()
		cancel()
	}
}
