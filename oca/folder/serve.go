package folder

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/oca/access"
	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

// Config is what a folder is served with.
type Config struct {
	// Dir is the folder.
	Dir string
	// Listener takes the connections; Serve closes it.
	Listener net.Listener
	// TLS is nil for plain HTTP.
	TLS *tls.Config
	// Key verifies the token that every path begins with; nil serves
	// everybody without.
	Key *token.Key
	// Announced are the prefixes whose clients are served; empty is all.
	Announced []netip.Prefix
	// MaxAge is how long a cache may keep media without asking again; zero is
	// not at all. Manifests are always asked for again.
	MaxAge time.Duration
	// Access gets a line of JSON for each request; nil for none.
	Access io.Writer
	// AccessCMCD leaves out the requests that carry no CMCD.
	AccessCMCD bool
	// Log hears of connections that go wrong.
	Log *slog.Logger
	// Clock is the wall clock; nil means time.Now.
	Clock func() time.Time
	// Descriptors is how many the process may have open; zero is any number.
	// Connections and open files are bounded by it.
	Descriptors uint64
}

const (
	headTimeout  = 10 * time.Second
	idleTimeout  = 5 * time.Minute
	stallTimeout = time.Minute
	// maxConnections bounds memory at a few hundred megabytes.
	maxConnections = 50_000
	// sparedDescriptors are for all that is neither a connection nor a file of the
	// folder: the program's own, a certificate that is read, connections that are
	// coming or going.
	sparedDescriptors = 48
	// drainTime is what answers under way are given when the server ends.
	drainTime = 3 * time.Second
)

// Server serves a folder.
type Server struct {
	c     Config
	files *files
	wire  *wire.Server
	log   *access.Log
	cache string
}

// New opens the folder.
func New(c Config) (*Server, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	connections, open := share(c.Descriptors)
	f, err := openFiles(c.Dir, c.Clock, open)
	if err != nil {
		return nil, services.Errorf(services.NotFound, "cannot open the folder: %v", err).WithRemedy("give --root a folder that can be read")
	}
	s := &Server{c: c, files: f, cache: "public, no-cache"}
	if c.MaxAge > 0 {
		s.cache = "public, max-age=" + strconv.Itoa(int(c.MaxAge.Seconds()))
	}
	f.meta = s.meta
	if c.Access != nil {
		s.log = access.New(c.Access)
	}
	s.wire = wire.New(wire.Config{
		Handler: requests{s}, Prompt: true, TLS: c.TLS, Fields: wire.CrossOrigin(), Log: c.Log,
		HeadTimeout: headTimeout, IdleTimeout: idleTimeout, StallTimeout: stallTimeout, MaxConnections: connections,
	})
	return s, nil
}

// share says how many connections there may be, and how many files are kept open
// between requests: a quarter of the descriptors at most.
func share(descriptors uint64) (connections int64, open int) {
	if descriptors == 0 {
		return maxConnections, maxOpen
	}
	left := max(8, int64(min(descriptors, 1<<30))-sparedDescriptors)
	open = int(min(maxOpen, left/4))
	return min(maxConnections, left-int64(open)), open
}

func (s *Server) meta(name string, size int64, etag string, modified time.Time) *wire.Meta {
	cache := s.cache
	if manifest(name) {
		cache = "public, no-cache"
	}
	return wire.NewMeta(size, etag, modified, mediaType(name), cache)
}

// Serve answers until ctx ends, and then gives answers under way a moment.
func (s *Server) Serve(ctx context.Context) error {
	defer s.files.close()
	var group sync.WaitGroup
	if s.log != nil {
		group.Go(s.log.Run)
	}
	// Connections outlive ctx by drainTime.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		s.wire.Leave()
		s.wire.Drain()
		s.wire.Await(drainTime)
		end()
	})
	err := s.wire.Serve(serving, s.c.Listener)
	stop()
	end()
	if s.log != nil {
		s.log.Close()
	}
	group.Wait()
	return err
}

// answer decides on one request.
func (s *Server) answer(r *wire.Request, a *wire.Answer) error {
	path := r.Path
	if s.c.Announced != nil && !announced(s.c.Announced, r.Client.Addr()) {
		return services.Errorf(services.Denied, "%s is in no prefix announced here", r.Client.Addr()).WithReason("client_not_routed")
	}
	if s.c.Key != nil {
		rest, err := s.admit(path, r.Client.Addr())
		if err != nil {
			return err
		}
		path = rest
	}
	name := relative(path)
	if name == "" {
		return notFound()
	}
	f, err := s.files.get(name, r.Slow)
	if err != nil {
		return err
	}
	a.Content(r, f, s.c.Clock())
	return nil
}

// admit checks the token that a path begins with and returns the rest. The
// token's title is the folder it is good for, its client the only address, if
// it names one.
func (s *Server) admit(path string, client netip.Addr) (string, error) {
	tok, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok {
		return "", services.Errorf(services.Denied, "the path does not begin with a token").WithReason("token_missing").WithRemedy("sign a URL: flix serve oca sign")
	}
	claims, err := s.c.Key.Verify(token.URL, tok, s.c.Clock())
	if err != nil {
		return "", err
	}
	if claims.Client != "" {
		if a, err := netip.ParseAddr(claims.Client); err != nil || a.Unmap() != client {
			return "", services.Errorf(services.Denied, "the URL was signed for another address than %s", client).WithReason("token_client")
		}
	}
	if claims.Title != "" && rest != claims.Title && !strings.HasPrefix(rest, claims.Title+"/") {
		return "", services.Errorf(services.Denied, "the URL was signed for another folder").WithReason("token_title")
	}
	return "/" + rest, nil
}

func announced(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
