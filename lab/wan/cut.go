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
	for p := range next {
		if t.crossing.cuts[p].After(now) {
			continue
		}
		for c := range t.crossing.conns[p] {
			resetRaw(c)
		}
		delete(t.crossing.conns, p)
	}
	t.crossing.cuts = next
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

// passable waits until something passes between two regions, or ctx ends.
func (t *Table) passable(ctx context.Context, p pair) error {
	for {
		until := t.cut(p)
		if until.IsZero() {
			return nil
		}
		if err := sleep(ctx, min(time.Until(until), lookAgain)); err != nil {
			return err
		}
	}
}

// crossing are the open connections between regions, and the pairs that are
// cut.
type crossing struct {
	mu    sync.Mutex
	cuts  map[pair]time.Time
	conns map[pair]map[syscall.Conn]struct{}
	swept int
}

// sweepEvery bounds the closed connections that are remembered.
const sweepEvery = 256

// crosses remembers a connection; it resets one that a cut came before.
func (t *Table) crosses(p pair, c net.Conn) {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	x := &t.crossing
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cuts[p].After(time.Now()) {
		resetRaw(raw)
		return
	}
	if x.conns[p] == nil {
		x.conns[p] = map[syscall.Conn]struct{}{}
	}
	x.conns[p][raw] = struct{}{}
	if x.swept++; x.swept < sweepEvery {
		return
	}
	x.swept = 0
	for _, conns := range x.conns {
		for c := range conns {
			if rc, err := c.SyscallConn(); err != nil || errors.Is(rc.Control(func(uintptr) {}), net.ErrClosed) {
				delete(conns, c)
			}
		}
	}
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
