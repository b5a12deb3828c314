package wire

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// Config is what a server is made of.
type Config struct {
	Handler Handler
	// TLS makes the server speak TLS 1.3, with HTTP/2 and HTTP/1.1; nil is
	// plain HTTP/1.1.
	TLS *tls.Config
	// Proxy says whether a peer has to send a PROXY protocol v2 header before
	// anything else; nil asks nobody.
	Proxy func(netip.Addr) bool
	// Fields go with every answer.
	Fields []Field
	// HeadTimeout is how long a client may take for its TLS handshake, and for
	// a request's head from its first byte on.
	HeadTimeout time.Duration
	// IdleTimeout is how long a connection may wait for the next request.
	IdleTimeout time.Duration
	// StallTimeout is how long a client may take no byte of an answer.
	StallTimeout time.Duration
	// MaxConnections is how many there may be. For more, some that are idle are
	// ended; where there are none, who comes is closed at once. Zero is no limit.
	MaxConnections int64
	// Prompt says that the handler answers at once, and calls Request.Slow before
	// it does what may have to wait: small answers of many connections are then
	// given in a row.
	Prompt bool
	// Pace holds answers to a rate; nil does not.
	Pace Pacer
	// Log hears of what goes wrong below HTTP: at the debug level of a client's, as
	// a warning of what concerns all of them.
	Log *slog.Logger
}

// Pacer lets bytes pass at some rate. Safe for concurrent use.
type Pacer interface {
	// Quantum is how many bytes may be asked for at once; zero while there is
	// no limit.
	Quantum() int64
	// Wait returns when n bytes may go, or with ctx.
	Wait(ctx context.Context, n int64) error
}

// Server serves one listener. Use New.
type Server struct {
	c       Config
	common  string
	h2      *http.Server
	h2conn  *handover
	parkers []*parker // of plain connections one after the other
	next    atomic.Uint32

	draining atomic.Bool
	left     atomic.Bool
	date     atomic.Pointer[string]
	tick     atomic.Int64 // coarse clock: ticks since start

	mu       sync.Mutex
	conns    map[*conn]struct{}
	listener net.Listener // while it serves
	ended    bool

	count   atomic.Int64
	busied  chan struct{} // has a token when the first client of a while has come
	open    sync.WaitGroup
	heads   sync.Pool // *[]byte of headBuffer
	batches sync.Pool // *batch
	spells  sync.Pool // *exchange
}

// headBuffer is the size of the buffer a request's head is read into first.
const headBuffer = 4 << 10

// New makes a server.
func New(c Config) *Server {
	s := &Server{c: c, conns: map[*conn]struct{}{}, busied: make(chan struct{}, 1)}
	var b strings.Builder
	for _, f := range append([]Field{{"Server", "flix"}}, c.Fields...) {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	s.common = b.String()
	s.heads.New = func() any { b := make([]byte, headBuffer); return &b }
	s.spells.New = func() any { return &exchange{} }
	s.batches.New = func() any { return newBatch() }
	if c.TLS != nil {
		s.c.TLS = c.TLS.Clone()
		s.c.TLS.MinVersion = tls.VersionTLS13
		s.c.TLS.NextProtos = []string{"h2", "http/1.1"}
		// Records are gathered into large writes: small ones would only cost.
		s.c.TLS.DynamicRecordSizingDisabled = true
		last := s.c.TLS.Clone()
		last.NextProtos = []string{"http/1.1"}
		s.c.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if s.draining.Load() {
				return last, nil
			}
			return nil, nil // the server's own
		}
		s.h2, s.h2conn = s.newHTTP2()
	}
	s.setDate(time.Now())
	return s
}

func (s *Server) setDate(now time.Time) {
	d := now.UTC().Format(httpDate)
	s.date.Store(&d)
}

// Connections is how many clients are connected.
func (s *Server) Connections() int64 { return s.count.Load() }

// Drain makes every answer from now on the last of its connection, and closes
// idle connections. Clients of HTTP/2 are told to go (GOAWAY, RFC 9113, 6.8), and
// their connections end when the streams that they have are over; who comes now
// gets HTTP/1.1.
func (s *Server) Drain() {
	s.draining.Store(true)
	if s.h2 != nil {
		// Shutdown tells everybody first and then waits, with an ended context not.
		told, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.h2.Shutdown(told) // the context's error
	}
	s.each(func(c *conn) {
		if c.state.Load() == stateIdle {
			c.wake()
		}
	})
}

func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// Serve accepts connections until ctx ends, closes them all and waits for
// them. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if err := s.openParkers(); err != nil {
		l.Close()
		return services.Wrap("serve", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var own sync.WaitGroup
	defer own.Wait()
	defer s.open.Wait()
	defer s.closeAll()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer s.listen(l)()
	own.Go(func() { s.watch(ctx) })
	for _, p := range s.parkers {
		p.running = &own
		own.Go(p.run)
	}
	if s.h2 != nil {
		own.Go(func() { _ = s.h2.Serve(s.h2conn) }) // ends when closeAll closes it
	}
	return s.accept(ctx, l)
}

// openParkers makes a parker for each two processors where they lead.
func (s *Server) openParkers() error {
	n := 1
	if s.c.Prompt {
		n = max(1, runtime.GOMAXPROCS(0)/2)
	}
	for range n {
		p, err := newParker(s)
		if err != nil {
			for _, p := range s.parkers {
				p.close()
			}
			return err
		}
		s.parkers = append(s.parkers, p)
	}
	return nil
}

func (s *Server) parkerOf() *parker {
	return s.parkers[int(s.next.Add(1))%len(s.parkers)]
}

// start takes a connection up.
func (s *Server) start(ctx context.Context, nc net.Conn) {
	c := newConn(ctx, s, nc)
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.conns[c] = struct{}{}
		s.open.Add(1)
		if s.count.Add(1) == 1 {
			s.setDate(time.Now()) // the clock may have stood still
			select {
			case s.busied <- struct{}{}:
			default: // it is told already
			}
		}
	}
	s.mu.Unlock()
	if ended {
		nc.Close()
		return
	}
	go c.begin()
}

// gone forgets a connection. It is called once for each.
func (s *Server) gone(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.count.Add(-1)
	s.open.Done()
}

func (s *Server) closeAll() {
	if s.h2 != nil {
		s.h2conn.Close()
		_ = s.h2.Close() // the listener is closed already
	}
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	for _, p := range s.parkers {
		p.close()
	}
	s.each(func(c *conn) { c.tcp.Close() })
}

// Await waits after Drain until no answer is on its way and who speaks HTTP/2 has
// gone, for d at most. What net/http has of the latter's last answers cannot be
// seen, and would be cut off; it closes an idle connection a second after GOAWAY.
func (s *Server) Await(d time.Duration) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for s.busy() {
		select {
		case <-deadline.C:
			return
		case <-t.C:
		}
	}
}

// busy says whether any connection is in the middle of something.
func (s *Server) busy() bool {
	busy := false
	s.each(func(c *conn) {
		busy = busy || c.state.Load() != stateIdle
	})
	return busy
}
