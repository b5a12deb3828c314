package player

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/play"
)

// source is one appliance to stream from, with its connections and what the
// player has learned of it. The play's goroutine owns it; only warm is shared
// with the transport's.
type source struct {
	play.Appliance
	base  *url.URL
	files map[string]*url.URL // below base, of those asked for
	host  string
	port  uint16
	conn  *connector
	names *resolver
	// do makes a request over HTTP/1.1 with keep-alive: one request at a time
	// needs no more, and an appliance can send a file from the kernel.
	do        func(*http.Request) (*http.Response, error)
	transport transport

	mu   sync.Mutex
	warm *tls.Conn // made by the probe, for the next request

	// stage of its probe, and the connection that the probe has opened and not
	// secured yet.
	stage stage
	raw   net.Conn
	// connect and handshake are how long these took; ready is how long after
	// the begin of the probe both were done.
	connect, handshake, ready time.Duration
	probeErr                  error

	failures int
	// until is when a source that failed may be used again; excluded ones may
	// not, for this play.
	until    time.Time
	excluded bool
}

func newSource(a play.Appliance, conn *connector, names *resolver, lean bool) (*source, error) {
	base, err := url.Parse(a.URL)
	if err != nil || base.Scheme != "https" || base.Hostname() == "" {
		return nil, services.Errorf(services.Internal, "steering gave a URL of %s that is none: %q", a.Name, a.URL)
	}
	port := uint64(443)
	if p := base.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return nil, services.Errorf(services.Internal, "steering gave a URL of %s with port %q", a.Name, p)
		}
	}
	s := &source{Appliance: a, base: base, files: make(map[string]*url.URL), host: base.Hostname(), port: uint16(port), conn: conn, names: names, connect: unknown, ready: unknown}
	if lean {
		s.transport = newLean(conn.bufs, func(ctx context.Context) (net.Conn, error) { return s.dialTLS(ctx, "", "") })
	} else {
		s.transport = &http.Transport{DialTLSContext: s.dialTLS, DisableCompression: true, MaxIdleConnsPerHost: 1}
	}
	s.do = asking(s.transport, lean)
	return s, nil
}

// ask makes a request for a file below the appliance's URL. A play asks for few
// files, and for each of them many times.
func (s *source) ask(ctx context.Context, method, path string) (*http.Request, error) {
	u := s.files[path]
	if u == nil {
		u = s.base.JoinPath(path)
		s.files[path] = u
	}
	req, err := http.NewRequestWithContext(ctx, method, "", nil)
	if err != nil {
		return nil, err
	}
	req.URL, req.Host = u, u.Host
	return req, nil
}

// dialTLS takes the connection that the probe made, or makes one.
func (s *source) dialTLS(ctx context.Context, _, _ string) (net.Conn, error) {
	if c := s.takeWarm(); c != nil {
		return c, nil
	}
	addr, err := s.locate(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := s.conn.tcp(ctx, addr)
	if err != nil {
		return nil, err
	}
	return s.conn.tls(ctx, conn, s.host, "http/1.1")
}

// locate resolves the appliance's host.
func (s *source) locate(ctx context.Context) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(s.host); err == nil {
		return netip.AddrPortFrom(ip, s.port), nil
	}
	addrs, err := s.names.host(ctx, s.host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Addr(), s.port), nil
}

// keep holds a connection for the next request.
func (s *source) keep(c *tls.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warm = c
}

func (s *source) takeWarm() *tls.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.warm
	s.warm = nil
	return c
}

func (s *source) isWarm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warm != nil
}

// usable says whether the source may be asked now.
func (s *source) usable(now time.Time) bool { return !s.excluded && !now.Before(s.until) }

// penalise keeps a failed source out for a while, longer each time.
func (s *source) penalise(now time.Time, base, most time.Duration) {
	s.failures++
	s.until = now.Add(min(base<<min(s.failures-1, 10), most))
	s.drop()
}

// drop closes the source's idle connections.
func (s *source) drop() {
	s.transport.CloseIdleConnections()
	if c := s.takeWarm(); c != nil {
		_ = c.NetConn().Close() // nothing was asked on it
	}
}

// pick chooses the source of the next request: the current one, unless it is
// out, or a better one is in and the buffer allows to try it. sources are in
// order of preference. It returns nil when all are out.
func pick(sources []*source, current *source, comfortable bool, now time.Time) *source {
	for _, s := range sources {
		switch {
		case s == current && s.usable(now):
			return s
		case s.usable(now) && (comfortable || current == nil || !current.usable(now)):
			return s
		}
	}
	return nil
}
