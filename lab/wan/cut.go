package wan

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// Cut is a partition of the WAN: nothing passes between two regions until a
// point in time, or until it is taken back.
type Cut struct {
	Between [2]string
	Until   time.Time
}

// lookAgain is how often a connection that waits behind a cut looks whether it
// was taken back before its time.
const lookAgain = 50 * time.Millisecond

// Sever makes the cuts the ones in force. Connections across a pair that was
// whole before are reset; those that are dialled meanwhile get no answer, as
// with packets that are lost. A cut ends by itself.
func (t *Table) Sever(cuts []Cut) {
	now, next := time.Now(), make(map[pair]time.Time, len(cuts))
	for _, c := range cuts {
		if c.Until.After(now) {
			next[pairOf(c.Between[0], c.Between[1])] = c.Until
		}
	}
	t.crossing.mu.Lock()
	defer t.crossing.mu.Unlock()
	for c, o := range t.crossing.conns {
		p := pairOf(o.flow.from.Region, o.flow.region)
		if _, cut := next[p]; cut && !t.crossing.cuts[p].After(now) {
			resetRaw(c)
			delete(t.crossing.conns, c)
		}
	}
	t.crossing.cuts = next
}

// Impose makes the rules the ones in force. A connection that a new rule is
// about is reset when the rule says so, or when it is a plain one, which
// nothing else can be done to: who used it comes back through a dialer that
// knows. What waits for a hole that was taken back goes on at once.
func (t *Table) Impose(rules []Rule) {
	now, next := time.Now(), make([]Rule, 0, len(rules))
	for _, r := range rules {
		if r.Until.After(now) {
			next = append(next, r)
		}
	}
	t.crossing.mu.Lock()
	defer t.crossing.mu.Unlock()
	t.rules.Store(&next)
	for c, o := range t.crossing.conns {
		if closed(c) {
			delete(t.crossing.conns, c)
			continue
		}
		if o.stream != nil && o.flow.blocked().IsZero() {
			o.stream.release()
		}
		touched, reset := false, false
		for _, r := range next {
			if out, in := r.way(o.flow.from, o.flow.addr, o.flow.region); out || in {
				touched, reset = true, reset || r.Cut && !r.OneWay || r.Reset > 0
			}
		}
		if !touched {
			o.touched = false
			t.crossing.conns[c] = o
			continue
		}
		if !o.touched && (reset || o.stream == nil && !o.datagram) {
			resetRaw(c)
			delete(t.crossing.conns, c)
			continue
		}
		o.touched = true
		t.crossing.conns[c] = o
	}
}

// cut says until when nothing passes between two regions; zero when it does.
func (t *Table) cut(p pair) time.Time {
	t.crossing.mu.Lock()
	defer t.crossing.mu.Unlock()
	if until := t.crossing.cuts[p]; until.After(time.Now()) {
		return until
	}
	return time.Time{}
}

// passable waits until a flow's packets pass, or ctx ends.
func (t *Table) passable(ctx context.Context, f flow) error {
	for {
		until := f.blocked()
		if f.region != "" && f.from.Region != f.region {
			until = later(until, t.cut(pairOf(f.from.Region, f.region)))
		}
		if until.IsZero() {
			return nil
		}
		if err := sleep(ctx, min(time.Until(until), lookAgain)); err != nil {
			return err
		}
	}
}

// crossing are the open connections, and the pairs of regions that are cut.
type crossing struct {
	mu    sync.Mutex
	cuts  map[pair]time.Time
	conns map[syscall.Conn]open
	swept int
}

// open is a connection that was dialled.
type open struct {
	flow flow
	// stream delays it; nil for a plain connection.
	stream   *stream
	datagram bool
	// touched says that a rule was about it already.
	touched bool
}

// sweepEvery bounds the closed connections that are remembered.
const sweepEvery = 256

// crosses remembers a connection; it resets one that a cut came before, and a
// plain one that a rule came before: nothing else can be done to it.
func (t *Table) crosses(c net.Conn, o open) {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	x := &t.crossing
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cuts[pairOf(o.flow.from.Region, o.flow.region)].After(time.Now()) {
		resetRaw(raw)
		return
	}
	if o.touched = o.flow.touched(); o.touched && o.stream == nil && !o.datagram {
		resetRaw(raw)
		return
	}
	x.conns[raw] = o
	if x.swept++; x.swept < sweepEvery {
		return
	}
	x.swept = 0
	for c := range x.conns {
		if closed(c) {
			delete(x.conns, c)
		}
	}
}

func closed(c syscall.Conn) bool {
	rc, err := c.SyscallConn()
	return err != nil || errors.Is(rc.Control(func(uintptr) {}), net.ErrClosed)
}

// resetRaw ends a connection without a word.
func resetRaw(c syscall.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	if n, ok := c.(net.Conn); ok {
		_ = n.Close()
	}
}
