package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// An API that answers before it has read the body leaves the gateway reading a
// stream whose handler is over: net/http's must not be touched then.
func TestAnswersBeforeTheBodyOverHTTP2(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.registry.add("signup", "us-east/a/signup/1", "a", origin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		}
	}))
	c := e.client(eastClient, true)
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 50 {
				body, pieces := io.Pipe()
				// The rest never comes: the gateway waits for it when the answer does.
				go func() { _, _ = pieces.Write([]byte("0123456789")) }()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+edgeHost+"/signup/x", body)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				if resp.StatusCode != http.StatusBadRequest {
					t.Errorf("status %d", resp.StatusCode)
				}
				_ = resp.Body.Close()
				_ = body.Close()
			}
		})
	}
	g.Wait()
}
