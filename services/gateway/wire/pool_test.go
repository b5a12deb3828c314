package wire

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
	const limit = 300 * time.Millisecond
	for _, method := range []string{"GET", "POST"} {
		until := time.Now().Add(limit)
		first, err := send(t, p, addr, "POST", "body", limit)
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
