package host

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// Listeners are the bound sockets of one instance, by port name.
type Listeners struct {
	TCP map[string]net.Listener
	UDP map[string]net.PacketConn
}

// listen binds every port of a spec, and of a sidecar only those that are its
// own and not the store's. The DNS role's client port is bound for datagrams as
// well.
func listen(spec runtime.Spec) (Listeners, *sockets, error) {
	ls := Listeners{TCP: map[string]net.Listener{}, UDP: map[string]net.PacketConn{}}
	s := &sockets{conns: map[*net.TCPConn]struct{}{}}
	fail := func(err error) (Listeners, *sockets, error) {
		s.reset()
		return Listeners{}, nil, err
	}
	for _, name := range spec.Ports {
		if _, own := spec.Addresses[name]; spec.Sidecar && !own {
			continue
		}
		addr := spec.Addr(name)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fail(fmt.Errorf("%s: port %s: %w", spec.ID, name, err))
		}
		t := &tracked{TCPListener: l.(*net.TCPListener), s: s}
		s.closers = append(s.closers, l.Close)
		ls.TCP[name] = t
		if spec.Role == topology.RoleDNS && name == topology.PortClient {
			pc, err := net.ListenPacket("udp", addr)
			if err != nil {
				return fail(fmt.Errorf("%s: port %s: %w", spec.ID, name, err))
			}
			s.closers = append(s.closers, pc.Close)
			ls.UDP[name] = pc
		}
	}
	return ls, s, nil
}

// sockets remembers what an instance has open, so that a kill can reset it.
type sockets struct {
	mu      sync.Mutex
	conns   map[*net.TCPConn]struct{}
	swept   int
	closers []func() error
	dead    bool
}

// tracked hands out the raw *net.TCPConn (a wrapper would lose sendfile and
// splice) and remembers it.
type tracked struct {
	*net.TCPListener
	s *sockets
}

func (t *tracked) Accept() (net.Conn, error) {
	c, err := t.TCPListener.AcceptTCP()
	if err != nil {
		return nil, err
	}
	t.s.add(c)
	return c, nil
}

// sweepEvery bounds the closed connections that are remembered.
const sweepEvery = 256

func (s *sockets) add(c *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		_ = c.SetLinger(0)
		_ = c.Close()
		return
	}
	s.conns[c] = struct{}{}
	if s.swept++; s.swept < sweepEvery {
		return
	}
	s.swept = 0
	for c := range s.conns {
		rc, err := c.SyscallConn()
		if err != nil || errors.Is(rc.Control(func(uintptr) {}), net.ErrClosed) {
			delete(s.conns, c)
		}
	}
}

// reset closes the listeners and resets every connection, as the end of a
// process without a word would.
func (s *sockets) reset() {
	s.resetConns()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.closers {
		_ = c() // closed already: fine
	}
}

// resetConns resets every connection, and each that is accepted from now on.
func (s *sockets) resetConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	for c := range s.conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	s.conns = nil
}
