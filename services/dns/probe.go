package dns

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/flix-lab/flix/services"
)

// probe is the way through one load balancer. It keeps its connection open
// between two checks: a request on it costs little, and its end is news.
type probe struct {
	dial services.DialFunc
	addr string

	c     net.Conn // nil for none
	r     *bufio.Reader
	asked int // times, on this connection
}

// perConnection is how often a connection is asked: the next may go to another
// gateway, and shows that connections still come about.
const perConnection = 16

// check asks for something through the balancer. Whatever a gateway answers
// shows that the way is whole; refused says that nobody listens there.
func (p *probe) check(ctx context.Context, limit time.Duration) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if p.asked >= perConnection {
		p.close()
	}
	if p.c != nil {
		if err := p.ask(ctx); err == nil || ctx.Err() != nil {
			return false, err
		}
		// The connection was at its end, which says nothing of the next.
	}
	c, err := p.dial(ctx, "tcp", p.addr)
	if err != nil {
		return ctx.Err() == nil, err
	}
	p.c, p.r, p.asked = c, bufio.NewReaderSize(c, 512), 0
	return false, p.ask(ctx)
}

// ask makes one request. The connection is closed when it is of no use after it.
func (p *probe) ask(ctx context.Context) (err error) {
	done := false
	defer func() {
		if err != nil || done {
			p.close()
		}
	}()
	p.asked++
	if err := p.c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c := p.c
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: api.flix.test\r\n\r\n")); err != nil {
		return err
	}
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		return err
	}
	done = resp.Close
	if err := resp.Body.Close(); err != nil { // it reads what is left: the next answer begins there
		return err
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return services.Errorf(services.Unavailable, "%s", resp.Status)
	}
	return nil
}

// rest waits until a point in time, or ctx ends; ended says that the connection
// did so before.
func (p *probe) rest(ctx context.Context, until time.Time) (ended bool) {
	if p.c == nil {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		return false
	}
	c := p.c
	if err := c.SetReadDeadline(until); err != nil {
		p.close()
		return true
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	if _, err := p.r.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	p.close() // nobody speaks on it unasked, either
	return true
}

func (p *probe) close() {
	if p.c != nil {
		_ = p.c.Close() // it is of no use any more
		p.c = nil
	}
}
