package wire

import (
	"context"
	"sync"
	"time"
)

// Presence knows whether a client is still there while its connection is not
// read: between a request's last byte and the answer's first. It cancels the
// connection's context when the client is gone.
//
// A client that only ended its sending looks like one that went away until
// something is sent to it; it is given a grace to get its answer in. From then on
// what is sent tells: one that is gone resets the connection.
type Presence struct {
	// Lifeline hangs what is done for the client on its presence.
	Lifeline *Lifeline

	cancel context.CancelFunc
	grace  time.Duration
	conn   *Conn

	mu    sync.Mutex
	busy  bool
	ended bool // the client sends no more
	timer *time.Timer
}

// NewPresence returns the context of a connection and what ends it; call
// Leave when the connection ends.
func NewPresence(parent context.Context, c *Conn, grace time.Duration) (context.Context, *Presence) {
	ctx, cancel := context.WithCancel(parent)
	return ctx, &Presence{Lifeline: newLifeline(ctx), cancel: cancel, grace: grace, conn: c}
}

// Busy says that a request is under way, or no longer.
func (p *Presence) Busy(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = on
	if on && p.ended {
		p.wait()
	}
}

// Gone is called when the client ended its sending (reset false), or everything
// (true).
func (p *Presence) Gone(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	switch {
	case reset:
		p.end()
	case p.busy:
		p.wait()
	}
}

func (p *Presence) wait() {
	if p.timer == nil {
		before := p.conn.writes.Load()
		p.timer = time.AfterFunc(p.grace, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			now := p.conn.writes.Load()
			if sending := now%2 == 1 || now != before; p.busy && !sending {
				p.end()
			}
		})
	}
}

func (p *Presence) end() {
	p.cancel()
	p.Lifeline.Cut()
}

// Cut ends everything at once: the gateway ends.
func (p *Presence) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

// Leave ends the presence.
func (p *Presence) Leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel()
	if p.timer != nil {
		p.timer.Stop()
	}
}

// watched is what a Watcher tells.
type watched interface{ Gone(reset bool) }

var _ watched = (*Presence)(nil)
