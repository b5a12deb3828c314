package wire

import (
	"context"
	"time"
)

// tickEvery is the grain of every deadline of a connection. One watcher looks
// at all of them, so that a request sets no timer.
const tickEvery = 250 * time.Millisecond

// The states of a connection, each with a deadline of its own.
const (
	stateOpening   int32 = iota // PROXY header and TLS handshake: HeadTimeout
	stateIdle                   // between requests: IdleTimeout
	stateHead                   // a head has begun: HeadTimeout
	stateSending                // an answer is on its way: StallTimeout without progress
	stateLingering              // the last bytes of an unwanted request: a second
	stateHTTP2                  // net/http looks after it
)

// parkAfter is for how many ticks an idle connection stays on the goroutine that
// served it before it is parked.
const parkAfter = 1

// watch keeps the clock and enforces deadlines until ctx ends. While nobody is
// connected there is no deadline and nobody to tell the date, and the clock
// stands still: a site's idle appliances cost no processor time for it.
func (s *Server) watch(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		if s.count.Load() == 0 {
			t.Stop()
			select {
			case <-ctx.Done():
				return
			case <-s.busied:
			}
			s.setDate(time.Now())
			t.Reset(tickEvery)
		}
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			tick := s.tick.Add(1)
			if tick%2 == 0 {
				s.setDate(now)
			}
			s.each(func(c *conn) { s.look(c, tick) })
		}
	}
}

// look ends a connection whose time is up.
func (s *Server) look(c *conn, tick int64) {
	state, age := c.state.Load(), tick-c.since.Load()
	switch state {
	case stateOpening:
		if age > ticks(s.c.HeadTimeout) {
			c.tcp.Close()
		}
	case stateIdle:
		switch {
		case age > ticks(s.c.IdleTimeout), s.draining.Load():
			c.overdue.Store(true)
			c.wake()
		case age > parkAfter && !c.parked.Load():
			c.wake()
		}
	case stateHead:
		if age > ticks(s.c.HeadTimeout) {
			c.overdue.Store(true)
			c.wake()
		}
	case stateSending:
		if age > ticks(s.c.StallTimeout) && !c.waiting.Load() {
			c.abort()
		}
	case stateLingering:
		if age > ticks(time.Second) {
			c.tcp.Close()
		}
	}
}

func ticks(d time.Duration) int64 { return max(1, int64(d/tickEvery)) }
