package events

import (
	"encoding/binary"
	"errors"
	"net"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/flix-lab/flix/services"
)

// maxRequest bounds one request to the broker, in bytes.
const maxRequest = 16 << 20

// guard is the listener the broker sees. The broker trusts the size and the
// key in a request's head, so the guard looks at them first and closes a
// connection that does not speak Kafka. It also counts the connections, so
// that the server can wait for their end.
type guard struct {
	net.Listener
	addr net.Addr
	// ready is closed when the broker may serve: it listens before it has all
	// that its clients will ask for.
	ready, ended chan struct{}
	once         sync.Once

	mu    sync.Mutex
	conns map[*guardedConn]struct{}
	wg    sync.WaitGroup
}

func newGuard(ln net.Listener, advertise string) (*guard, error) {
	g := &guard{Listener: ln, addr: ln.Addr(), ready: make(chan struct{}), ended: make(chan struct{}), conns: map[*guardedConn]struct{}{}}
	if advertise == "" {
		return g, nil
	}
	_, port, err := net.SplitHostPort(advertise)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return nil, services.Errorf(services.Invalid, "events.NewServer: advertise %q: %v", advertise, err)
	}
	g.addr = advertised(advertise)
	return g, nil
}

// advertised is an address known only as text.
type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }

// Addr is what the broker tells its clients.
func (g *guard) Addr() net.Addr { return g.addr }

// open lets connections in.
func (g *guard) open() { close(g.ready) }

// Close closes the listener, and ends a wait for open.
func (g *guard) Close() error {
	g.once.Do(func() { close(g.ended) })
	return g.Listener.Close()
}

// Accept hands on guarded connections, from open on.
func (g *guard) Accept() (net.Conn, error) {
	select {
	case <-g.ready:
	case <-g.ended:
		return nil, net.ErrClosed
	}
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	gc := &guardedConn{Conn: c, g: g}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[gc] = struct{}{}
	g.wg.Add(1)
	return gc, nil
}

func (g *guard) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns)
}

// shut closes the listener and every connection and waits until the broker
// has let go of them.
func (g *guard) shut() {
	_ = g.Close() // closed by the broker already, as a rule
	g.mu.Lock()
	for c := range g.conns {
		_ = c.Conn.Close() // the broker's read fails and it closes c
	}
	g.mu.Unlock()
	g.wg.Wait()
}

// guardedConn checks the head of each request as it is read.
type guardedConn struct {
	net.Conn
	g    *guard
	once sync.Once

	head [headSize]byte
	have int   // bytes of head seen
	left int64 // bytes of the request still to come after its head
}

// headSize is the length of a request's size and key.
const headSize = 6

var errNotKafka = errors.New("not a Kafka request")

// Read passes bytes on, unless they begin a request that must not be served.
func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if cerr := c.check(p[:n]); cerr != nil {
		return 0, cerr
	}
	return n, err
}

// check follows the framing through the bytes of a read.
func (c *guardedConn) check(b []byte) error {
	for len(b) > 0 {
		if c.left > 0 {
			n := min(c.left, int64(len(b)))
			c.left -= n
			b = b[n:]
			continue
		}
		n := copy(c.head[c.have:], b)
		c.have += n
		b = b[n:]
		if c.have >= 4 {
			// The size must be right before the key is there: the broker
			// makes room for a request as soon as it has its size.
			size := binary.BigEndian.Uint32(c.head[:])
			if size > maxRequest || size < 8 {
				return errNotKafka
			}
			c.left = int64(size) - int64(headSize-4)
		}
		if c.have < headSize {
			c.left = 0
			continue
		}
		if kmsg.RequestForKey(int16(binary.BigEndian.Uint16(c.head[4:]))) == nil {
			return errNotKafka
		}
		c.have = 0
	}
	return nil
}

// Close closes the connection once and lets shut go on.
func (c *guardedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.g.mu.Lock()
		delete(c.g.conns, c)
		c.g.mu.Unlock()
		c.g.wg.Done()
	})
	return err
}
