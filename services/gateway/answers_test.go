package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// TestBrokenOriginBreaksTheAnswer resets the origin in the middle of a body of
// known length, and of one that its end ends.
func TestBrokenOriginBreaksTheAnswer(t *testing.T) {
	for _, head := range []string{"Content-Length: 10\r\n", "Connection: close\r\n"} {
		e := newWorld(t).gateway("us-east")
		e.registry.add("signup", "us-east/a/signup/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
			readRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head+"\r\nhalf")
			_ = c.(*net.TCPConn).SetLinger(0)
		}))
		c := e.raw(t)
		c.send(plainGet)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			continue // a reset may overtake what was sent
		}
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%q: a broken answer reads as %q without an error", head, b)
		}
	}
}

// origin is an API that speaks bytes.
func origin(t *testing.T, serve func(net.Conn, *bufio.Reader)) string {
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

func readRequest(r *bufio.Reader) string {
	req, err := http.ReadRequest(r)
	if err != nil {
		return ""
	}
	b, _ := io.ReadAll(req.Body)
	return string(b)
}

// TestOddAnswersAreRefused gives the client 502 for what two parsers could read
// differently.
func TestOddAnswersAreRefused(t *testing.T) {
	for name, answer := range map[string]string{
		"two lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"length and chunks": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
		"unknown coding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
		"bare LF":           "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"folded":            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"space in name":     "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
		"NUL":               "HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 0\r\n\r\n",
		"no status":         "HTTP/1.1 OK\r\n\r\n",
		"not HTTP":          "SSH-2.0-OpenSSH\r\n\r\n",
		"unasked switch":    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
		"nothing":           "",
		"too long":          "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 2*maxHeaderBytes) + "\r\n\r\n",
	} {
		e := newWorld(t).gateway("us-east")
		e.registry.add("signup", "us-east/a/signup/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
			readRequest(r)
			_, _ = io.WriteString(c, answer)
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1)) // until the gateway has had enough
		}))
		c := e.raw(t)
		c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
		if name == "nothing" {
			continue // the try's time-out is retry_test's
		}
		if resp, body := c.answer("POST"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, ReasonBadAnswer) {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
}

// TestLargeBodiesNeedLittleMemory streams 256 MiB both ways.
func TestLargeBodiesNeedLittleMemory(t *testing.T) {
	const size = 256 << 20
	e := newWorld(t).gateway("us-east")
	e.set(PropertyMaxBody, fmt.Sprint(size))
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if n > 0 {
			_, _ = fmt.Fprint(w, n)
			return
		}
		_, _ = io.CopyN(w, zeros{}, size)
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := e.raw(t)
	c.send(plainGet)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d bytes come down, %v", n, err)
	}
	c.send("POST /signup/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", size)
	if _, err := io.CopyN(c, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if _, body := c.answer("POST"); body != fmt.Sprint(size) {
		t.Errorf("%s bytes went up", body)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("%d MiB were allocated for bodies that pass through", got>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
