package bgp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/flix-lab/flix/topology"
)

// session is one connection, from its OPEN to its end. Its states are those of
// RFC 4271 section 8 from OpenSent on; Connect and Active are the speaker's
// dialling and listening.
type session struct {
	s      *Speaker
	conn   net.Conn
	dialed bool
	in     *bufio.Reader
	peer   neighbour
	// established is guarded by the speaker's lock.
	established bool
	// again has a token when there may be something to announce.
	again chan struct{}

	// ending is set before writers are interrupted; closing is done by whoever
	// ends the session first, whose reason counts.
	ending  atomic.Bool
	closing sync.Once

	mu    sync.Mutex // of writing
	ended bool
	why   error
}

// lastWords bounds what is spent on telling the neighbour why a session ends.
const lastWords = time.Second

// run talks to the neighbour until one of both ends it, and says whether there
// was a session.
func (s *Speaker) run(ctx context.Context, conn net.Conn, dialed bool) bool {
	x := &session{s: s, conn: conn, dialed: dialed, in: bufio.NewReader(conn), again: make(chan struct{}, 1)}
	stop := context.AfterFunc(ctx, func() {
		x.end(faultf(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, "the speaker stops"))
	})
	err := x.talk(ctx)
	stop()
	x.end(err)
	x.mu.Lock()
	why := x.why
	x.mu.Unlock()
	s.release(x, why)
	if !x.established {
		s.failed(why)
	}
	return x.established
}

func (x *session) talk(ctx context.Context) error {
	open, err := openMessage(&x.s.c)
	if err != nil {
		return err
	}
	if err := x.send(open); err != nil {
		return err
	}
	body, err := x.expect(packet.BGP_MSG_OPEN, packet.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE)
	if err != nil {
		return err
	}
	if x.peer, err = readOpen(&x.s.c, body); err != nil {
		return err
	}
	if err := x.s.claim(x); err != nil {
		return err
	}
	if err := x.send(packet.NewBGPKeepAliveMessage()); err != nil {
		return err
	}
	if _, err := x.expect(packet.BGP_MSG_KEEPALIVE, packet.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENCONFIRM_STATE); err != nil {
		return err
	}
	if !x.s.establish(x) {
		return nil // another connection has won
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := x.speak(ctx); err != nil {
			x.end(err)
		}
	}()
	err = x.listen()
	cancel()
	x.end(err)
	<-done
	return err
}

// expect reads the one message that may come in a state.
func (x *session) expect(kind, unexpected uint8) ([]byte, error) {
	got, body, err := x.read(x.s.c.Hold)
	switch {
	case err != nil:
		return nil, err
	case got == packet.BGP_MSG_NOTIFICATION:
		return nil, readTold(body)
	case got != kind:
		return nil, faultf(packet.BGP_ERROR_FSM_ERROR, unexpected, "a message of type %d came where one of type %d was due", got, kind)
	}
	return body, nil
}

// read reads a message; one that is not there in time is a silent neighbour.
func (x *session) read(hold time.Duration) (uint8, []byte, error) {
	deadline := time.Time{}
	if hold > 0 {
		deadline = time.Now().Add(hold)
	}
	_ = x.conn.SetReadDeadline(deadline) // a closed connection fails below
	kind, body, err := readMessage(x.in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = faultf(packet.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, "the neighbour was silent for %v", hold)
	}
	return kind, body, err
}

// listen takes what the neighbour says in a session.
func (x *session) listen() error {
	for {
		kind, body, err := x.read(x.peer.hold)
		if err != nil {
			return err
		}
		switch kind {
		case packet.BGP_MSG_KEEPALIVE:
			x.s.implied(x)
		case packet.BGP_MSG_NOTIFICATION:
			return readTold(body)
		case packet.BGP_MSG_UPDATE:
			c, err := readUpdate(x.s.c.ASN, x.peer.fourByte, body)
			if err != nil {
				return err
			}
			if err := x.s.learn(x, c); err != nil {
				return err
			}
		default:
			return faultf(packet.BGP_ERROR_FSM_ERROR, packet.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE, "a message of type %d came in a session", kind)
		}
	}
}

// speak announces what there is to announce, and that this was all, then what
// changes; in between it shows that it lives.
func (x *session) speak(ctx context.Context) error {
	sent := map[netip.Prefix]topology.Route{}
	if err := x.announce(sent); err != nil {
		return err
	}
	for _, f := range families {
		if x.peer.speaks[f] {
			if err := x.send(packet.NewEndOfRib(f)); err != nil {
				return err
			}
		}
	}
	var beat <-chan time.Time
	if x.peer.hold > 0 {
		t := time.NewTicker(x.peer.hold / 3)
		defer t.Stop()
		beat = t.C
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-beat:
			err = x.send(packet.NewBGPKeepAliveMessage())
		case <-x.again:
			err = x.announce(sent)
		}
		if err != nil {
			return err
		}
	}
}

// wake has the session look again at what there is to announce.
func (x *session) wake() {
	select {
	case x.again <- struct{}{}:
	default:
	}
}

// announce sends the difference between what was sent and what is to be known.
func (x *session) announce(sent map[netip.Prefix]topology.Route) error {
	want := x.s.announced()
	var gone []netip.Prefix
	var fresh []topology.Route
	for p := range sent {
		if _, still := want[p]; !still {
			gone = append(gone, p)
		}
	}
	for p, r := range want {
		if old, had := sent[p]; (!had || old != r) && x.speaksOf(p) {
			fresh = append(fresh, r)
		}
	}
	if len(fresh) > 0 && !x.peer.fourByte {
		return faultf(packet.BGP_ERROR_OPEN_MESSAGE_ERROR, packet.BGP_ERROR_SUB_UNSUPPORTED_CAPABILITY, "the neighbour does not speak of AS numbers in four octets")
	}
	ms, err := updates(x.s.c.ASN, x.nextHop(), gone, fresh)
	if err != nil {
		return err
	}
	for _, m := range ms {
		if err := x.send(m); err != nil {
			return err
		}
	}
	clear(sent)
	maps.Copy(sent, want)
	return nil
}

func (x *session) speaksOf(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return x.peer.speaks[packet.RF_IPv4_UC]
	}
	return x.peer.speaks[packet.RF_IPv6_UC]
}

// nextHop is the address of this end, or the identifier where that is of IPv6.
func (x *session) nextHop() netip.Addr {
	if a, err := netip.ParseAddrPort(x.conn.LocalAddr().String()); err == nil && a.Addr().Unmap().Is4() {
		return a.Addr().Unmap()
	}
	return x.s.c.ID
}

func (x *session) send(m *packet.BGPMessage) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return net.ErrClosed
	}
	_ = x.conn.SetWriteDeadline(time.Now().Add(x.s.c.Hold)) // a closed connection fails below
	if x.ending.Load() {                                    // perhaps that deadline was to interrupt this
		return net.ErrClosed
	}
	return x.write(m)
}

// write is called with the lock held.
func (x *session) write(m *packet.BGPMessage) error {
	b, err := m.Serialize()
	if err != nil {
		return err
	}
	_, err = x.conn.Write(b)
	return err
}

// end closes the connection, once, and tells the neighbour why where it is this
// side that ends it. A writer that it interrupts, and that takes this for the
// connection's failure, comes too late to say so.
func (x *session) end(why error) {
	x.closing.Do(func() {
		// A writer that waits for a neighbour who reads nothing shall not keep this.
		x.ending.Store(true)
		_ = x.conn.SetWriteDeadline(time.Now())
		x.mu.Lock()
		defer x.mu.Unlock()
		x.ended, x.why = true, why
		_ = x.conn.SetWriteDeadline(time.Now().Add(lastWords))
		var f *fault
		if errors.As(why, &f) && x.write(packet.NewBGPNotificationMessage(f.code, f.subcode, f.data)) == nil {
			x.bow()
		}
		_ = x.conn.Close()
	})
}

// leave bounds the wait for the neighbour to close its end.
const leave = 200 * time.Millisecond

// bow lets the neighbour read the last words: a connection that is closed while
// there is something unread in it is reset, and takes them away.
func (x *session) bow() {
	half, ok := x.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = x.conn.SetReadDeadline(time.Now().Add(leave)) // a closed connection fails below
	_, _ = io.Copy(io.Discard, x.conn)                // whatever ends it
}
