package objects

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// headerTimeout bounds how long a client may take to send a request's head.
	headerTimeout = 10 * time.Second
	// idleTimeout closes a keep-alive connection that nobody uses.
	idleTimeout = 2 * time.Minute
	// maxHeaderBytes bounds a request's head.
	maxHeaderBytes = 64 << 10
)

// ServerConfig is what an embedded S3 server needs.
type ServerConfig struct {
	// Dir holds the objects; made if it is missing. One server at a time.
	Dir string
	// Listener to serve on, already bound. The server closes it.
	Listener net.Listener
	// AccessKey and SecretKey are the one pair of credentials accepted.
	AccessKey, SecretKey string
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Server is an S3 server on plain files. It implements services.Unit.
type Server struct {
	ln       net.Listener
	tel      *telemetry.Telemetry
	verifier verifier
	store    *store
	egress   *egressLog
	http     *http.Server
	requests *prometheus.CounterVec
	release  func() error
	gate     gate
}

// NewServer opens the store in Dir. It fails with services.Conflict if another
// server uses it. Whoever does not call Serve calls Close.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Dir == "" || c.Listener == nil || c.Tel == nil || c.AccessKey == "" || c.SecretKey == "" {
		return nil, services.Errorf(services.Invalid, "objects.NewServer: Dir, Listener, AccessKey, SecretKey and Tel are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	st, err := openStore(c.Dir, c.Now)
	if err != nil {
		return nil, services.Wrap("objects.NewServer", err)
	}
	egressBytes := newEgressCounter()
	eg, err := openEgressLog(st.root, egressBytes)
	if err != nil {
		return nil, errors.Join(services.Wrap("objects.NewServer", err), st.close())
	}
	s := &Server{
		ln: c.Listener, tel: c.Tel, store: st, egress: eg,
		verifier: verifier{accessKey: c.AccessKey, secretKey: c.SecretKey, now: c.Now},
		requests: newRequestCounter(),
		release:  sync.OnceValue(func() error { return errors.Join(eg.close(), st.close()) }),
	}
	c.Tel.Metrics.MustRegister(egressBytes, s.requests)
	s.http = newHTTP(c.Tel, s.serveHTTP)
	return s, nil
}

// newHTTP is the HTTP server of a store or of a door before one.
func newHTTP(tel *telemetry.Telemetry, h http.HandlerFunc) *http.Server {
	return &http.Server{
		Handler:           tel.Handler("s3", h),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
}

func newEgressCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "s3_egress_bytes_total", Help: "Bytes of objects served, since the store was made."}, []string{"bucket"})
}

func newRequestCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "s3_requests_total", Help: "S3 requests answered."}, []string{"op", "code"})
}

// EgressBytes returns the bytes of object data served out of a bucket since
// the store was made, over all restarts.
func (s *Server) EgressBytes(bucket string) uint64 { return s.egress.total(bucket) }

// Serve answers until ctx ends, then cuts every connection, waits for the
// handlers and releases the store. No acknowledged write is lost by that.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer stop()
	err := s.http.Serve(s.ln)
	if !errors.Is(err, http.ErrServerClosed) {
		err = errors.Join(services.Wrap("objects.Serve", err), s.http.Close())
	} else {
		err = nil
	}
	s.gate.shut()
	return errors.Join(err, s.release())
}

// Close releases a server that was never served. It is harmless after Serve.
func (s *Server) Close() error {
	err := s.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, s.release())
}

// serveHTTP answers one request and counts it.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.gate.enter() {
		refuse(w)
		return
	}
	defer s.gate.leave()
	sw := &codeWriter{ResponseWriter: w}
	q := &request{s: s, w: sw, r: r}
	if err := q.serve(); err != nil {
		q.fail(err)
	}
	s.requests.WithLabelValues(q.op, strconv.Itoa(sw.code)).Inc()
}

// codeWriter remembers the status of an answer.
type codeWriter struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes the first status that is not just informational.
func (c *codeWriter) WriteHeader(code int) {
	if c.code == 0 && code >= http.StatusOK {
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

// Write implies 200, as in net/http.
func (c *codeWriter) Write(p []byte) (int, error) {
	if c.code == 0 {
		c.code = http.StatusOK
	}
	return c.ResponseWriter.Write(p)
}

// bare returns the innermost writer, which can use sendfile. The head must
// have been written through the wrappers before.
func bare(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// Unwrap lets bare and http.ResponseController through.
func (c *codeWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
