package evcache

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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
	// kindSet is any command that stores.
	kindSet
	kindDelete
	kindTouch
	// kindMeta is a meta get with the flags f, t and v.
	kindMeta
)

// errNotStored says that the condition of an add or an append does not hold.
var errNotStored = errors.New("not stored")

// window bounds the commands and their bytes on their way to one server: the
// answers are read between two windows, so that neither side waits for the
// other to read.
const (
	windowCommands = 128
	windowBytes    = 128 << 10
)

// command is one command with what becomes of it.
type command struct {
	kind kind
	// req is the command; value, if any, is sent after it.
	req   []byte
	value []byte
	// out, ttl (seconds; -1 never, kindMeta alone) and err are its answer.
	out raw
	ttl int64
	err error
}

const (
	// maxWaiting bounds the callers that wait for a connection to one server.
	maxWaiting = 256
	// failuresToRest is how many failures in a row make a server rest.
	failuresToRest = 3
)

// peer is one server: a small pool of connections, used one command at a time.
type peer struct {
	node   Node
	addr   string
	called string // in errors: who, and where
	cfg    *Config

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
	r   *bufio.Reader
	out []byte // scratch for what is sent
}

// maxKeptBuffer bounds the scratch that a connection keeps, in bytes.
const maxKeptBuffer = 64 << 10

func newPeer(n Node, cfg *Config) *peer {
	return &peer{node: n, addr: n.Addr, called: n.called(), cfg: cfg, slots: make(chan struct{}, cfg.Conns), busy: map[*conn]struct{}{}}
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

// do runs commands of one server in order and leaves their answers in them: a
// miss is ErrMiss, a condition that does not hold errNotStored, and a refusal
// an answer. It fails when the server does not answer; the commands are as they
// were then. A cancelled context cuts the wait for a connection; commands on
// their way end by the context's deadline or timeout.
func (p *peer) do(ctx context.Context, timeout time.Duration, cs []command) error {
	for len(cs) > 0 {
		n, size := 0, 0
		for n < len(cs) && n < windowCommands && (n == 0 || size < windowBytes) {
			size += len(cs[n].req) + len(cs[n].value)
			n++
		}
		if err := p.doWindow(ctx, timeout, cs[:n]); err != nil {
			return err
		}
		cs = cs[n:]
	}
	return nil
}

// resting says whether the server is left alone because it failed.
func (p *peer) resting() bool {
	rest := p.restTill.Load()
	return rest != 0 && time.Now().UnixNano() < rest
}

func (p *peer) doWindow(ctx context.Context, timeout time.Duration, cs []command) error {
	if p.resting() {
		return services.Errorf(services.Unavailable, "cache server %s failed a moment ago", p.called)
	}
	end := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	if err := p.acquire(ctx, end); err != nil {
		return err
	}
	defer func() { <-p.slots }()
	for {
		c, reused, err := p.conn(ctx, end)
		if err != nil {
			return p.failed(err)
		}
		err = c.exchange(cs, end)
		p.release(c, err == nil)
		if err == nil {
			p.failures.Store(0)
			return nil
		}
		// An idle connection may have died long ago, so a fresh one gets a
		// chance, if none of the commands does harm when it is done twice.
		if reused && !errors.Is(err, errTimeout) && time.Now().Before(end) && ctx.Err() == nil && repeatable(cs) {
			continue
		}
		return p.failed(err)
	}
}

// repeatable says whether the commands may be sent again: an append may not.
func repeatable(cs []command) bool {
	for i := range cs {
		if bytes.HasPrefix(cs[i].req, []byte("append ")) {
			return false
		}
	}
	return true
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
		return services.Errorf(services.Exhausted, "%d callers wait for cache server %s", maxWaiting, p.called)
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
		return services.Errorf(services.Unavailable, "no connection to cache server %s came free in time", p.called)
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
	return &services.Error{Kind: services.Unavailable, Msg: "cache server " + p.called, Err: err}
}

var errTimeout = errors.New("no answer in time")

// answer is a refusal by the server; the connection stays in step.
type answer struct{ line string }

func (a *answer) Error() string { return "cache server: " + a.line }

// exchange sends commands and reads their answers.
func (c *conn) exchange(cs []command, end time.Time) error {
	if err := c.SetDeadline(end); err != nil {
		return err
	}
	err := c.send(cs)
	for i := 0; err == nil && i < len(cs); i++ {
		err = cs[i].read(c.r)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return errTimeout
	}
	return err
}

// send writes commands in as few system calls as there are pieces worth one.
func (c *conn) send(cs []command) error {
	if len(cs) == 1 && cs[0].value == nil {
		_, err := c.Write(cs[0].req)
		return err
	}
	b := c.out[:0]
	for i := range cs {
		b = append(append(b, cs[i].req...), cs[i].value...)
		if cs[i].value != nil {
			b = append(b, "\r\n"...)
		}
	}
	_, err := c.Write(b)
	if cap(b) <= maxKeptBuffer {
		c.out = b
	}
	return err
}

// read reads the command's answer. It fails only when the connection is out of
// step after it.
func (k *command) read(r *bufio.Reader) error {
	k.out, k.ttl, k.err = raw{}, 0, nil
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	line = bytes.TrimRight(line, "\r\n")
	switch {
	case k.kind == kindGet && bytes.HasPrefix(line, []byte("VALUE ")):
		k.out, err = readValue(r, line)
		return err
	case k.kind == kindMeta && bytes.HasPrefix(line, []byte("VA ")):
		k.out, k.ttl, err = readMetaValue(r, line)
		return err
	case k.kind == kindGet && string(line) == "END", k.kind == kindMeta && string(line) == "EN":
		k.err = ErrMiss
	case k.kind == kindSet && (string(line) == "STORED" || string(line) == "HD"), k.kind == kindDelete && string(line) == "DELETED", k.kind == kindTouch && string(line) == "TOUCHED":
	case k.kind != kindGet && k.kind != kindMeta && string(line) == "NOT_FOUND":
		k.err = ErrMiss
	case string(line) == "NOT_STORED", k.kind == kindSet && string(line) == "NS":
		k.err = errNotStored
	case bytes.HasPrefix(line, []byte("SERVER_ERROR ")):
		k.err = &answer{string(line)}
	default:
		return fmt.Errorf("unexpected answer %.100q", line)
	}
	return nil
}

// readValue reads the rest of the answer to a get of one key.
func readValue(r *bufio.Reader, head []byte) (raw, error) {
	var words [6][]byte
	w := split(words[:0], head)
	if len(w) < 4 || len(w) > 5 {
		return raw{}, fmt.Errorf("unexpected answer %.100q", head)
	}
	flags, err := parseUint(w[2])
	n, nerr := parseUint(w[3])
	if err != nil || nerr != nil || flags > math.MaxUint32 || n > maxItem {
		return raw{}, fmt.Errorf("unexpected answer %.100q", head)
	}
	v, err := readBody(r, int(n))
	if err != nil {
		return raw{}, err
	}
	end, err := r.ReadSlice('\n')
	if err != nil {
		return raw{}, err
	}
	if string(end) != "END\r\n" {
		return raw{}, errBadLength
	}
	return raw{value: v, flags: uint32(flags)}, nil
}

// readMetaValue reads the rest of "VA BYTES fFLAGS tTTL".
func readMetaValue(r *bufio.Reader, head []byte) (v raw, ttl int64, err error) {
	var words [8][]byte
	w := split(words[:0], head)
	if len(w) < 2 {
		return raw{}, 0, fmt.Errorf("unexpected answer %.100q", head)
	}
	n, err := parseUint(w[1])
	for _, f := range w[2:] {
		if err != nil {
			break
		}
		var x uint64
		switch f[0] {
		case 'f':
			x, err = parseUint(f[1:])
			v.flags = uint32(x)
		case 't':
			ttl, err = strconv.ParseInt(string(f[1:]), 10, 64)
		}
	}
	if err != nil || n > maxItem {
		return raw{}, 0, fmt.Errorf("unexpected answer %.100q", head)
	}
	v.value, err = readBody(r, int(n))
	return v, ttl, err
}

var errBadLength = errors.New("the value's length is wrong")

// readBody reads a value and its line end into memory of its own.
func readBody(r *bufio.Reader, n int) ([]byte, error) {
	v := make([]byte, n+2)
	if _, err := io.ReadFull(r, v); err != nil {
		return nil, err
	}
	if string(v[n:]) != "\r\n" {
		return nil, errBadLength
	}
	return v[:n:n], nil
}

// parseUint reads a decimal number without making a string of it.
func parseUint(b []byte) (uint64, error) {
	if len(b) == 0 || len(b) > 19 {
		return 0, strconv.ErrSyntax
	}
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, strconv.ErrSyntax
		}
		n = 10*n + uint64(c-'0')
	}
	return n, nil
}
