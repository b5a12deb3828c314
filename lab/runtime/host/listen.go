package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

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
	s := &sockets{conns: map[*net.TCPConn]bool{}}
	fail := func(err error) (Listeners, *sockets, error) {
		s.reset()
		return Listeners{}, nil, err
	}
	for _, name := range spec.Ports {
		if _, own := spec.Addresses[name]; spec.Sidecar && !own {
			continue
		}
		addr := spec.Addr(name)
		// Not Multipath TCP, which no peer of the lab speaks: the kernel does not
		// let such a listener be frozen.
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(context.Background(), "tcp", addr)
		if err != nil {
			return fail(fmt.Errorf("%s: port %s: %w", spec.ID, name, err))
		}
		t := &tracked{TCPListener: l.(*net.TCPListener), s: s, admin: name == topology.PortAdmin}
		s.closers = append(s.closers, l.Close)
		if name != topology.PortAdmin { // the lab looks after its instances through it
			s.entries = append(s.entries, l.(*net.TCPListener))
		}
		ls.TCP[name] = t
		if spec.Role == topology.RoleDNS && name == topology.PortClient {
			pc, err := net.ListenPacket("udp", addr)
			if err != nil {
				return fail(fmt.Errorf("%s: port %s: %w", spec.ID, name, err))
			}
			s.closers = append(s.closers, pc.Close)
			s.entries = append(s.entries, pc.(*net.UDPConn))
			ls.UDP[name] = pc
		}
	}
	return ls, s, nil
}

// sockets remembers what an instance has open, so that a kill can reset it.
type sockets struct {
	mu      sync.Mutex
	conns   map[*net.TCPConn]bool // whether a freeze is about it
	swept   int
	closers []func() error
	dead    bool
	// entries are the sockets that others come in by.
	entries []syscall.Conn
	frozen  bool
}

// tracked hands out the raw *net.TCPConn (a wrapper would lose sendfile and
// splice) and remembers it.
type tracked struct {
	*net.TCPListener
	s     *sockets
	admin bool
}

func (t *tracked) Accept() (net.Conn, error) {
	c, err := t.TCPListener.AcceptTCP()
	if err != nil {
		return nil, err
	}
	t.s.add(c, !t.admin)
	return c, nil
}

// sweepEvery bounds the closed connections that are remembered.
const sweepEvery = 256

func (s *sockets) add(c *net.TCPConn, freezes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		_ = c.SetLinger(0)
		_ = c.Close()
		return
	}
	s.conns[c] = freezes
	if s.frozen && freezes { // it came in before the listener was
		if rc, err := c.SyscallConn(); err == nil {
			_ = freezeSocket(rc, true) // it was possible for the others
		}
	}
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

// freeze stops the instance's sockets, but for the admin endpoint's, or lets
// them go on.
func (s *sockets) freeze(on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == on || s.dead {
		return nil
	}
	s.frozen = on
	var errs []error
	stop := func(c syscall.Conn) {
		rc, err := c.SyscallConn()
		if err == nil {
			err = freezeSocket(rc, on)
		}
		errs = append(errs, err)
	}
	for _, e := range s.entries {
		stop(e)
	}
	for c, freezes := range s.conns {
		if freezes {
			stop(c)
		}
	}
	return errors.Join(errs...)
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
