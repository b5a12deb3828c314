package bgp

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/flix-lab/flix/topology"
)

// Speaker holds at most one session with its neighbour. Use New. Safe for
// concurrent use.
type Speaker struct {
	c Config
	// note has a token when what was learned, or the session, changed.
	note chan struct{}
	// whole is closed once the table is whole for the first time.
	whole chan struct{}

	mu      sync.Mutex
	rib     *rib
	session *session // from OpenConfirm on
	idle    chan struct{}
	ended   map[packet.Family]bool // whose End-of-RIB was heard in this session
	state   State
	lost    string      // why the last session ended, until there is another
	barred  time.Time   // until then the neighbour, which announced too much, is not heard
	sweeper *time.Timer // drops stale routes, or ends the wait for the first
	out     map[netip.Prefix]topology.Route
}

// State is how a speaker's session is.
type State struct {
	// Established says whether there is a session; Since when that is so.
	Established bool      `json:"established"`
	Since       time.Time `json:"since"`
	// Whole says whether the neighbour has announced all that it has, once.
	Whole bool `json:"whole"`
	// Neighbour is its address and identifier, of the session or the last one.
	Neighbour string `json:"neighbour,omitempty"`
	// Routes that are known, of them Stale ones of a session that is lost.
	Routes int `json:"routes"`
	Stale  int `json:"stale"`
	// Sessions established so far.
	Sessions int `json:"sessions"`
	// Error is why the last session ended, and then why the last attempt at
	// another did.
	Error string `json:"error,omitempty"`
}

// noRouter is why a speaker that only listens has no session at first.
const noRouter = "no router has connected yet"

// New returns a speaker that does nothing before Serve.
func New(c Config) (*Speaker, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	idle := make(chan struct{})
	close(idle)
	state := State{Since: time.Now()}
	if c.Dial == nil {
		state.Error = noRouter
	}
	return &Speaker{c: c, note: make(chan struct{}, 1), whole: make(chan struct{}), rib: newRIB(c.MaxRoutes), idle: idle, state: state, out: map[netip.Prefix]topology.Route{}}, nil
}

// Note has a token when what was learned, or the session, changed.
func (s *Speaker) Note() <-chan struct{} { return s.note }

// Whole is closed when the neighbour has first said all that it has to say, or
// has not come for as long as stale routes are kept: then nothing is learned, and
// that is to be known.
func (s *Speaker) Whole() <-chan struct{} { return s.whole }

// Routes are those that are learned, stale ones too, in no order.
func (s *Speaker) Routes() []topology.Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rib.list()
}

// State tells how the session is.
func (s *Speaker) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Routes, st.Stale = len(s.rib.routes), s.rib.stale
	return st
}

// Originate replaces what is announced to the neighbour; of two routes to a
// prefix the better one counts.
func (s *Speaker) Originate(routes []topology.Route) {
	out := make(map[netip.Prefix]topology.Route, len(routes))
	for _, r := range routes {
		r.Prefix = r.Prefix.Masked()
		if old, had := out[r.Prefix]; !had || r.ASPath < old.ASPath || r.ASPath == old.ASPath && r.MED < old.MED {
			out[r.Prefix] = r
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = out
	if s.session != nil {
		s.session.wake()
	}
}

// announced is what is to be announced now; nobody changes it.
func (s *Speaker) announced() map[netip.Prefix]topology.Route {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out
}

// Serve implements services.Unit: it keeps a session until the context ends, and
// then takes leave of the neighbour.
func (s *Speaker) Serve(ctx context.Context) error {
	s.mu.Lock()
	s.sweeper = time.AfterFunc(s.c.Stale, s.expire)
	s.mu.Unlock()
	defer s.sweeper.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.c.Listener != nil {
		defer s.c.Listener.Close() // which ends accept; before the wait
		wg.Go(func() { s.accept(ctx, &wg) })
	}
	if s.c.Dial != nil {
		wg.Go(func() { s.dial(ctx) })
	}
	<-ctx.Done()
	return nil
}

// accept takes the neighbour's connections.
func (s *Speaker) accept(ctx context.Context, wg *sync.WaitGroup) {
	strangers := make(chan struct{}, maxStrangers)
	for ctx.Err() == nil {
		conn, err := s.c.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of files, say: not for long
			s.c.Log.Warn("a connection of the router cannot be taken", "error", err)
			pause(ctx, s.c.RetryMax)
			continue
		}
		select {
		case strangers <- struct{}{}:
			wg.Go(func() {
				defer func() { <-strangers }()
				s.run(ctx, conn, false)
			})
		default:
			_ = conn.Close()
		}
	}
}

// dial connects to the neighbour while there is no session, with growing,
// jittered waits in between. They begin anew after a session that was of use: one
// that ends as soon as it is up would else be opened again and again at once.
func (s *Speaker) dial(ctx context.Context) {
	wait := s.c.RetryMin
	for ctx.Err() == nil {
		s.mu.Lock()
		idle := s.idle
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-idle:
		}
		began, held := time.Now(), false
		attempt, cancel := context.WithTimeout(ctx, s.c.Hold)
		conn, err := s.c.Dial(attempt)
		cancel()
		if err != nil {
			s.failed(err)
		} else {
			held = s.run(ctx, conn, true)
		}
		if held && time.Since(began) >= s.c.RetryMax {
			wait = s.c.RetryMin
		}
		pause(ctx, wait/2+rand.N(wait/2+1))
		wait = min(2*wait, s.c.RetryMax)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// failed notes why there is no session.
func (s *Speaker) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	why := err.Error()
	if s.lost != "" {
		why = s.lost + "; then: " + why
	}
	if s.session != nil || s.state.Error == why {
		return
	}
	s.state.Error = why
	s.c.Log.Info("there is no session with the router", "as", s.c.PeerASN, "error", err)
	s.tell()
}

// tell says that something changed. Called with the lock held.
func (s *Speaker) tell() {
	select {
	case s.note <- struct{}{}:
	default:
	}
}

// claim makes a connection whose OPEN was good the session, unless there is a
// better one (RFC 4271 section 6.8): an established session stays, and of two
// others the one stays that the side with the greater identifier opened.
func (s *Speaker) claim(x *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.barred) {
		return faultf(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED, "the neighbour announced too much and is not heard before %s", s.barred.UTC().Format(time.TimeOnly))
	}
	collision := faultf(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION, "there is another connection")
	if old := s.session; old != nil {
		if old.established || old.dialed == x.dialed || x.dialed != (s.c.ID.Compare(x.peer.id) > 0) {
			return collision
		}
		old.end(collision)
	} else {
		s.idle = make(chan struct{})
	}
	s.session = x
	return nil
}

// establish notes that the session is up.
func (s *Speaker) establish(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != x {
		return false
	}
	x.established = true
	s.ended = map[packet.Family]bool{}
	for _, f := range families {
		s.ended[f] = !x.peer.speaks[f]
	}
	s.state.Established, s.state.Since, s.state.Error, s.lost = true, time.Now(), "", ""
	s.state.Neighbour = x.conn.RemoteAddr().String() + " (" + x.peer.id.String() + ")"
	s.state.Sessions++
	s.c.Log.Info("the session with the router is up", "as", s.c.PeerASN, "router", s.state.Neighbour)
	s.tell()
	return true
}

// release lets go of a session. What it taught is stale from now on, or withdrawn
// where the neighbour renounced it.
func (s *Speaker) release(x *session, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != x {
		return
	}
	s.session = nil
	close(s.idle)
	if why != nil {
		s.state.Error = why.Error()
	}
	if !x.established {
		return
	}
	s.state.Established, s.state.Since, s.lost = false, time.Now(), s.state.Error
	if s.renounced(why) {
		n := s.rib.clear()
		s.c.Log.Warn("the session with the router is down, and its routes are withdrawn", "as", s.c.PeerASN, "error", why, "routes", n)
		s.complete()
		return
	}
	fresh := len(s.rib.routes) - s.rib.stale
	if s.rib.stale == 0 {
		s.sweeper.Reset(s.c.Stale) // else the time of the older ones counts
	}
	s.rib.age()
	s.c.Log.Warn("the session with the router is down", "as", s.c.PeerASN, "error", why, "routes", fresh, "kept", s.c.Stale.String())
	s.tell()
}

// renounced says whether a session's end takes its routes away at once: the
// router's operator has ended it, or it has announced too much, so that none of it
// is to be relied on. After the latter it is not heard for as long as a lost
// session's routes are kept. Called with the lock held.
func (s *Speaker) renounced(why error) bool {
	var t told
	if errors.As(why, &t) {
		return t.meant()
	}
	var f *fault
	if errors.As(why, &f) && f.code == packet.BGP_ERROR_CEASE && f.subcode == packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED {
		s.barred = time.Now().Add(s.c.Stale)
		return true
	}
	return false
}

// learn takes up an UPDATE of the session.
func (s *Speaker) learn(x *session, c change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session != x {
		return nil
	}
	if c.mild != "" {
		s.c.Log.Warn("the router sent a malformed update", "as", s.c.PeerASN, "error", c.mild, "withdrawn", len(c.withdrawn))
	}
	if c.end != 0 {
		s.endOf(c.end)
		return nil
	}
	changed, err := s.rib.apply(c)
	if changed {
		s.tell()
	}
	return err
}

// endOf takes up that the neighbour has announced all routes of a family: what is
// stale was not among them. Called with the lock held.
func (s *Speaker) endOf(f packet.Family) {
	s.ended[f] = true
	if s.rib.sweep(f) {
		s.tell()
	}
	for _, f := range families {
		if !s.ended[f] {
			return
		}
	}
	s.rib.sweep(0) // those of a family that the neighbour no longer speaks of
	s.complete()
}

// complete says that the table is whole. Called with the lock held.
func (s *Speaker) complete() {
	if !s.state.Whole {
		s.state.Whole = true
		close(s.whole)
	}
	s.tell()
}

// implied takes the first sign of life after a session's beginning for the
// End-of-RIB of a neighbour that sends none.
func (s *Speaker) implied(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == x && !x.peer.marks {
		for _, f := range families {
			s.endOf(f)
		}
	}
}

// expire drops the routes that were stale for too long.
func (s *Speaker) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.rib.stale; s.rib.sweep(0) {
		s.c.Log.Warn("the routes of a lost session are withdrawn", "as", s.c.PeerASN, "routes", n)
	}
	s.complete()
}
