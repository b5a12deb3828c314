package evcache

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// DefaultMaxBytes bounds the items of a server unless it is told otherwise
	// (memcached's default).
	DefaultMaxBytes = 64 << 20
	// maxConns bounds the connections of a server.
	maxConns = 1024
	// acceptPause is the wait after a failed accept.
	acceptPause = 10 * time.Millisecond
	// connBuffer is the size of a connection's read and write buffer.
	connBuffer = 4 << 10
	// serverVersion is what "version" answers: that of the memcached whose
	// commands the server implements.
	serverVersion = "1.6.18-flix"
)

// ServerConfig is what an embedded memcached server needs.
type ServerConfig struct {
	// Listener to serve on, already bound. The server closes it.
	Listener net.Listener
	// MaxBytes bounds the items with their keys and overhead; 0 for
	// DefaultMaxBytes. Memory grows with what is stored.
	MaxBytes int64
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Server speaks memcached's text, meta and binary protocols. It implements
// services.Unit. What it holds is lost when it ends.
type Server struct {
	ln      net.Listener
	tel     *telemetry.Telemetry
	cache   *lru
	now     func() time.Time
	started time.Time

	totalConns, rejected atomic.Uint64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	done  bool
	wg    sync.WaitGroup
}

// NewServer makes an empty cache.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Listener == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "evcache.NewServer: Listener and Tel are required")
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{ln: c.Listener, tel: c.Tel, now: c.Now, cache: newLRU(c.MaxBytes, c.Now), started: c.Now(), conns: map[net.Conn]struct{}{}}
	s.register(c.Tel.Metrics)
	return s, nil
}

// register exposes the counters of "stats" as metrics.
func (s *Server) register(r *prometheus.Registry) {
	counter := func(name, help string, get func(counters) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 {
			c, _, _ := s.cache.figures()
			return float64(get(c))
		}))
	}
	counter("memcached_cmd_get_total", "Retrieval commands.", func(c counters) uint64 { return c.cmdGet })
	counter("memcached_cmd_set_total", "Storage commands.", func(c counters) uint64 { return c.cmdSet })
	counter("memcached_get_hits_total", "Keys found.", func(c counters) uint64 { return c.getHits })
	counter("memcached_get_misses_total", "Keys not found.", func(c counters) uint64 { return c.getMisses })
	counter("memcached_evictions_total", "Items removed to make room.", func(c counters) uint64 { return c.evictions })
	gauge := func(name, help string, get func() float64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, get))
	}
	gauge("memcached_curr_items", "Items held.", func() float64 { _, n, _ := s.cache.figures(); return float64(n) })
	gauge("memcached_bytes", "Bytes of the items held.", func() float64 { _, _, b := s.cache.figures(); return float64(b) })
	gauge("memcached_limit_maxbytes", "Bound of the items' bytes.", func() float64 { return float64(s.cache.max) })
	gauge("memcached_curr_connections", "Open connections.", func() float64 { return float64(s.connections()) })
}

func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Serve answers until ctx ends, then closes every connection and forgets
// everything.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.shut)
	defer stop()
	err := s.accept(ctx)
	s.shut()
	s.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return services.Wrap("evcache.Serve", err)
}

// accept takes connections in until the listener is closed. Any other failure
// (no descriptor left, a client gone at once) passes.
func (s *Server) accept(ctx context.Context) error {
	for {
		conn, err := s.ln.Accept()
		switch {
		case err == nil:
			if s.admit(conn) {
				go s.handle(conn)
			}
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return err
		default:
			s.tel.Log.Warn("memcached cannot accept", "error", err)
			t := time.NewTimer(acceptPause)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
		}
	}
}

// shut closes the listener and every connection.
func (s *Server) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	_ = s.ln.Close() // may be closed already
	for c := range s.conns {
		_ = c.Close() // its handler ends by that
	}
}

// admit takes a connection in, unless there are too many or the end has come.
func (s *Server) admit(c net.Conn) bool {
	s.totalConns.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done || len(s.conns) >= maxConns {
		s.rejected.Add(1)
		_, _ = io.WriteString(c, "ERROR Too many open connections\r\n") // it is closed next
		_ = c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) handle(c net.Conn) {
	defer s.wg.Done()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close() // may be closed by shut already
	}()
	rw := newSession(s, c, c)
	rw.conn = c
	if err := rw.run(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.tel.Log.Debug("memcached connection ended", "remote", c.RemoteAddr(), "error", err)
	}
}

// session is one client's connection.
type session struct {
	s    *Server
	r    *bufio.Reader
	w    *bufio.Writer
	conn net.Conn // nil in tests
	head []byte   // scratch for a binary request's extras and key
	line []byte   // scratch for a line longer than the buffer
	args [][]byte // scratch for the words of a line
	// lineRoom is what a long line has of the cache's room, lineDone ends its
	// haste.
	lineRoom int64
	lineDone func()
}

// newSession makes a session of what a client says and hears.
func newSession(s *Server, in io.Reader, out io.Writer) *session {
	w := bufio.NewWriterSize(out, connBuffer)
	return &session{s: s, r: bufio.NewReaderSize(answered{in, w}, connBuffer), w: w}
}

// answered is what a client says. Before more is waited for, the answers to
// what came are sent: a client may hold the rest of a command back until it has
// them.
type answered struct {
	in io.Reader
	w  *bufio.Writer
}

func (a answered) Read(p []byte) (int, error) {
	if err := a.w.Flush(); err != nil {
		return 0, err
	}
	return a.in.Read(p)
}

// errQuit ends a session in order.
var errQuit = errors.New("quit")

// run answers commands until the connection ends. The protocol is chosen by
// the first byte.
func (c *session) run() error {
	first, err := c.r.Peek(1)
	if err != nil {
		return err
	}
	step := c.textCommand
	if first[0] == binaryRequest {
		step = c.binaryCommand
	}
	for {
		err := step()
		if err == nil {
			continue
		}
		ferr := c.w.Flush()
		if errors.Is(err, errQuit) {
			return ferr
		}
		return err
	}
}
