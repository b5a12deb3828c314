// Package lookup is the client of the registry: it registers an instance,
// renews its lease, keeps a local copy of the registry by full and delta
// fetches, and answers VIP queries from that copy without I/O. Its wire is
// Eureka's REST API (JSON).
//
// One Client serves every instance of a process; another one, which only
// reads, may point at another region's registry. A registry that is away
// takes nothing with it: the last copy stays, and Age says how old it is.
package lookup

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Config of a Client.
type Config struct {
	// Registry returns the base URLs of the region's registry, e.g.
	// "http://127.0.0.1:4001/eureka/v2"; "/eureka/v2" is added to one without
	// a path. It is asked before each request, may return nothing for a while
	// and must not block.
	Registry func() []string
	// Dial opens connections to the registry and, in Dial, to instances; nil
	// dials directly.
	Dial services.DialFunc
	// Region whose registry this is; informative.
	Region string
	// Timing gives the intervals; a field that is zero is taken from
	// topology.LabTiming.
	Timing topology.Timing
	// Log receives what goes wrong and its end; nil discards it.
	Log *slog.Logger
}

// Client is a registry client. Use New; safe for concurrent use.
type Client struct {
	cfg  Config
	log  *slog.Logger
	http *http.Client
	// good is the index of the registry that answered last.
	good atomic.Int32
	// oneByOne: the registry does not renew several leases by one request.
	oneByOne atomic.Bool

	view    atomic.Pointer[view]
	fetched atomic.Int64 // nanoseconds after start of the last good fetch; 0 for none
	start   time.Time
	waiters atomic.Int32
	kick    chan struct{}
	cache   cache // owned by the fetch loop

	subMu  sync.Mutex
	subs   map[uint64]*subscription
	subSeq uint64

	regMu sync.Mutex
	regs  map[string]*registration
	wake  chan struct{}
}

// New returns a client that does nothing until Run, apart from remembering
// what is registered.
func New(cfg Config) *Client {
	cfg.Timing = complete(cfg.Timing)
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Registry == nil {
		cfg.Registry = func() []string { return nil }
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		cfg: cfg, log: log.With("registry_region", cfg.Region),
		http: &http.Client{Transport: &http.Transport{
			DialContext: cfg.Dial, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
			// A copy is some 30 kB over loopback: compressing it costs more than it saves.
			DisableCompression: true,
			ReadBufferSize:     16 << 10, WriteBufferSize: 4 << 10,
		}},
		start: time.Now(),
		kick:  make(chan struct{}, 1), wake: make(chan struct{}, 1),
		subs: map[uint64]*subscription{}, regs: map[string]*registration{},
	}
	c.view.Store(newView(nil, nil))
	return c
}

// Region is the region whose registry the client reads.
func (c *Client) Region() string { return c.cfg.Region }

// Run keeps the copy and the leases fresh until ctx ends, then returns nil.
// It does not deregister: an orderly end calls Deregister first, and a crash
// is what leases are for. It is called once.
func (c *Client) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { c.fetchLoop(ctx); return nil })
	g.Go(func() error { c.renewLoop(ctx); return nil })
	err := g.Wait()
	c.http.CloseIdleConnections()
	return err
}

// Age is the time since the registry last answered a fetch; the time since
// New when it never did.
func (c *Client) Age() time.Duration {
	return time.Since(c.start) - time.Duration(c.fetched.Load())
}

// Fetched reports whether the client has a copy of the registry at all.
func (c *Client) Fetched() bool { return c.fetched.Load() != 0 }

func complete(t topology.Timing) topology.Timing {
	lab := topology.LabTiming()
	for _, f := range []struct {
		to   *topology.Duration
		from topology.Duration
	}{
		{&t.LeaseRenewal, lab.LeaseRenewal}, {&t.LeaseDuration, lab.LeaseDuration},
		{&t.RegistryFetch, lab.RegistryFetch}, {&t.RPCTimeout, lab.RPCTimeout},
	} {
		if *f.to <= 0 {
			*f.to = f.from
		}
	}
	return t
}
