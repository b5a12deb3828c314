package evcache

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// kind of a command decides how its answer is read.
type kind int

const (
	kindGet kind = iota
	kindSet
	kindDelete
	kindTouch
)

const (
	// maxWaiting bounds the callers that wait for a connection to one server.
	maxWaiting = 256
	// failuresToRest is how many failures in a row make a server rest.
	failuresToRest = 3
)

// peer is one server: a small pool of connections, used one command at a time.
type peer struct {
	addr string
	cfg  *Config

	// slots holds one token per connection that may be in use.
	slots    chan struct{}
	waiting  atomic.Int32
	failures atomic.Int32
	restTill atomic.Int64 // Unix nanoseconds

	mu     sync.Mutex
	idle   []*conn
	busy   map[*conn]struct{}
	closed bool
}

// conn is one connection.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func newPeer(addr string, cfg *Config) *peer {
	return &peer{addr: addr, cfg: cfg, slots: make(chan struct{}, cfg.Conns), busy: map[*conn]struct{}{}}
}

// close closes every connection, also those in use.
func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.Close() // nothing is in flight
	}
	p.idle = nil
	for c := range p.busy {
		_ = c.Close() // its user sees the error
	}
}

// do runs one command and returns the value of a get. It fails with ErrMiss
// where there is no such item. A cancelled context cuts the wait for a
// connection; a command on its way ends by the context's deadline or timeout.
func (p *peer) do(ctx context.Context, timeout time.Duration, k kind, req []byte) ([]byte, error) {
	if rest := p.restTill.Load(); rest != 0 && time.Now().UnixNano() < rest {
		return nil, services.Errorf(services.Unavailable, "cache server %s failed a moment ago", p.addr)
	}
	end := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	if err := p.acquire(ctx, end); err != nil {
		return nil, err
	}
	defer func() { <-p.slots }()
	for {
		c, reused, err := p.conn(ctx, end)
		if err != nil {
			return nil, p.failed(err)
		}
		v, err := c.exchange(k, req, end)
		var answered *answer
		ok := err == nil || errors.Is(err, ErrMiss) || errors.As(err, &answered)
		p.release(c, ok)
		if ok {
			p.failures.Store(0)
			return v, err
		}
		// An idle connection may have died long ago. Every command can be
		// repeated, so a fresh one gets a chance.
		if reused && !errors.Is(err, errTimeout) && time.Now().Before(end) && ctx.Err() == nil {
			continue
		}
		return nil, p.failed(err)
	}
}

// acquire waits for a slot.
func (p *peer) acquire(ctx context.Context, end time.Time) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	if p.waiting.Add(1) > maxWaiting {
		p.waiting.Add(-1)
		return services.Errorf(services.Exhausted, "%d callers wait for cache server %s", maxWaiting, p.addr)
	}
	defer p.waiting.Add(-1)
	t := time.NewTimer(time.Until(end))
	defer t.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return services.Errorf(services.Unavailable, "no connection to cache server %s came free in time", p.addr)
	}
}

// conn returns an idle connection or opens one.
func (p *peer) conn(ctx context.Context, end time.Time) (c *conn, reused bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, errClosed
	}
	if n := len(p.idle); n > 0 {
		c, p.idle = p.idle[n-1], p.idle[:n-1]
		p.busy[c] = struct{}{}
		p.mu.Unlock()
		return c, true, nil
	}
	p.mu.Unlock()
	if d := time.Now().Add(p.cfg.Timeouts.Dial); d.Before(end) {
		end = d
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	nc, err := p.cfg.Dial(ctx, "tcp", p.addr)
	if err != nil {
		return nil, false, err
	}
	c = &conn{Conn: nc, r: bufio.NewReaderSize(nc, connBuffer)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, errors.Join(errClosed, nc.Close())
	}
	p.busy[c] = struct{}{}
	return c, false, nil
}

// release takes a connection back, or drops one that is out of step.
func (p *peer) release(c *conn, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, c)
	if !ok || p.closed {
		_ = c.Close() // it is of no use any more
		return
	}
	p.idle = append(p.idle, c)
}

// failed counts a failure and lets a server rest that fails again and again,
// so that readers do not wait for it each time.
func (p *peer) failed(err error) error {
	if p.failures.Add(1) >= failuresToRest {
		p.restTill.Store(time.Now().Add(p.cfg.Timeouts.Retry).UnixNano())
	}
	return &services.Error{Kind: services.Unavailable, Msg: "cache server " + p.addr, Err: err}
}

var errTimeout = errors.New("no answer in time")

// answer is a refusal by the server; the connection stays in step.
type answer struct{ line string }

func (a *answer) Error() string { return "cache server: " + a.line }

// exchange sends a command and reads its answer.
func (c *conn) exchange(k kind, req []byte, end time.Time) ([]byte, error) {
	if err := c.SetDeadline(end); err != nil {
		return nil, err
	}
	_, err := c.Write(req)
	if err == nil {
		var v []byte
		if v, err = readAnswer(c.r, k); err == nil {
			return v, nil
		}
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return nil, errTimeout
	}
	return nil, err
}

// readAnswer reads the answer to a command of kind k.
func readAnswer(r *bufio.Reader, k kind) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	line = bytes.TrimRight(line, "\r\n")
	switch {
	case k == kindGet && bytes.HasPrefix(line, []byte("VALUE ")):
		return readValue(r, line)
	case k == kindGet && string(line) == "END":
		return nil, ErrMiss
	case k == kindSet && string(line) == "STORED", k == kindDelete && string(line) == "DELETED", k == kindTouch && string(line) == "TOUCHED":
		return nil, nil
	case k != kindGet && string(line) == "NOT_FOUND":
		return nil, ErrMiss
	case string(line) == "NOT_STORED", bytes.HasPrefix(line, []byte("SERVER_ERROR ")):
		return nil, &answer{string(line)}
	}
	return nil, fmt.Errorf("unexpected answer %.100q", line)
}

// readValue reads the rest of the answer to a get of one key.
func readValue(r *bufio.Reader, head []byte) ([]byte, error) {
	n, err := valueSize(head)
	if err != nil {
		return nil, err
	}
	// The line's memory is the reader's buffer: head is void from here on.
	v := make([]byte, n+2)
	if _, err := io.ReadFull(r, v); err != nil {
		return nil, err
	}
	end, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if string(v[n:]) != "\r\n" || string(end) != "END\r\n" {
		return nil, errors.New("the value's length is wrong")
	}
	return v[:n:n], nil
}

// valueSize reads the length in "VALUE KEY FLAGS BYTES [CAS]".
func valueSize(head []byte) (int, error) {
	var words [6][]byte
	w := split(words[:0], head)
	if len(w) < 4 || len(w) > 5 {
		return 0, fmt.Errorf("unexpected answer %.100q", head)
	}
	n, err := strconv.Atoi(string(w[3]))
	if err != nil || n < 0 || n > maxItem {
		return 0, fmt.Errorf("unexpected answer %.100q", head)
	}
	return n, nil
}
