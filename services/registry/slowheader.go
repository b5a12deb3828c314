package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/flix-lab/flix/services"
)

// headerListener has its connections tell a client whose request takes too
// long that it does: net/http closes without a word.
type headerListener struct{ net.Listener }

// Accept implements net.Listener.
func (l headerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &headerConn{Conn: c}, nil
}

// headerConn answers 408 when the deadline passes between a request's first
// byte and the end of its header.
type headerConn struct {
	net.Conn
	// begun: there are bytes of a request that no handler has yet.
	begun atomic.Bool
	// handled: a handler has the request. Its body's deadline is its own matter.
	handled atomic.Bool
}

// Read implements net.Conn.
func (c *headerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.begun.Store(true)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && c.begun.Load() && !c.handled.Load() {
		_, _ = c.Write(slowHeader()) // the client is gone: nothing to tell it
		_ = c.Close()                // before net/http has a word of its own
	}
	return n, err
}

// idle makes the connection ready for another request.
func (c *headerConn) idle() {
	c.begun.Store(false)
	c.handled.Store(false)
}

// slowHeader is the whole answer to a header that took too long.
func slowHeader() []byte {
	body, err := json.Marshal(services.ProblemOf(services.Errorf(services.Invalid, "registry: the header of the request took too long")))
	if err != nil { // a Problem holds only strings
		panic("registry: problem: " + err.Error())
	}
	return fmt.Appendf(nil, "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n", len(body)+1, body)
}

type connKey struct{}

// watchHeaders has the server's connections know which part of a request they
// are in.
func watchHeaders(srv *http.Server) {
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	state, handler := srv.ConnState, srv.Handler
	srv.ConnState = func(c net.Conn, st http.ConnState) {
		if hc, ok := c.(*headerConn); ok && st == http.StateIdle {
			hc.idle()
		}
		if state != nil {
			state(c, st)
		}
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hc, ok := r.Context().Value(connKey{}).(*headerConn); ok {
			hc.handled.Store(true)
		}
		handler.ServeHTTP(w, r)
	})
}
