package wire

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/flix-lab/flix/services"
)

const (
	// acceptWaitMax is how long it waits at most before it tries to accept again.
	acceptWaitMax = time.Second
	// spareIdle is for how many ticks a connection must have been idle to make
	// room for another, and spareLook how many are looked at to find one.
	spareIdle, spareLook = 4, 64
	// spareMost is how many connections more than MaxConnections there may be
	// while those that make room come to their end.
	spareMost = 16
	// calm is how long nothing of a kind must go wrong to be over.
	calm = 10 * time.Second
)

// accept takes connections up until ctx ends, or until Leave closes the listener
// and ctx ends.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	var failing, full spell
	for wait := time.Duration(0); ; {
		nc, err := l.Accept()
		if err != nil {
			if s.left.Load() {
				<-ctx.Done()
			}
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return services.Wrap("accept connections", err)
			}
			// Out of descriptors, most likely: connections that end give some
			// back.
			wait = min(max(2*wait, 5*time.Millisecond), acceptWaitMax)
			if failing.note(time.Now()) {
				s.c.Log.Warn("cannot accept connections: those who come wait until some end", "error", err, "connections", s.count.Load())
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			continue
		}
		wait = 0
		if n, over := failing.over(time.Now); over {
			s.c.Log.Warn("connections are accepted again", "failures", n)
		}
		if s.room() {
			if n, over := full.over(time.Now); over {
				s.c.Log.Warn("there is room for connections again", "closed", n)
			}
			s.start(ctx, nc)
			continue
		}
		nc.Close()
		if full.note(time.Now()) {
			s.c.Log.Warn("there are too many connections: who comes is closed at once", "max", s.c.MaxConnections)
		}
	}
}

// listen keeps the listener for Leave until the function that it returns is called.
func (s *Server) listen(l net.Listener) (forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = l
	if s.left.Load() {
		l.Close()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.listener = nil
	}
}

// Leave closes the listener: nobody new is served, and whoever is connected is
// until Serve's context ends.
func (s *Server) Leave() {
	s.left.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		s.listener.Close()
	}
}

// room says whether another connection may be. Where there are as many as there may
// be, one that has asked for nothing for a while is ended for it.
func (s *Server) room() bool {
	n := s.count.Load()
	if s.c.MaxConnections <= 0 || n < s.c.MaxConnections {
		return true
	}
	if n >= s.c.MaxConnections+spareMost {
		return false
	}
	c := s.spare()
	if c == nil {
		return false
	}
	c.overdue.Store(true)
	c.wake()
	return true
}

// spare is the longest idle of some connections, nil if none is.
func (s *Server) spare() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *conn
	looked, before := 0, s.tick.Load()-spareIdle
	for c := range s.conns { // from anywhere on
		if looked++; looked > spareLook {
			break
		}
		if since := c.since.Load(); c.state.Load() == stateIdle && !c.overdue.Load() && since <= before {
			found, before = c, since
		}
	}
	return found
}

// spell is a time in which something goes wrong again and again, which is told
// once as it begins and once when it is over.
type spell struct {
	times int
	last  time.Time
}

// note counts one more; it is true for the first.
func (p *spell) note(now time.Time) bool {
	p.times, p.last = p.times+1, now
	return p.times == 1
}

// over says how often it went wrong, once it has not for a while.
func (p *spell) over(now func() time.Time) (times int, over bool) {
	if p.times == 0 || now().Sub(p.last) < calm {
		return 0, false
	}
	times = p.times
	*p = spell{}
	return times, true
}
