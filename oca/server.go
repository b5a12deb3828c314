package oca

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/oca/access"
	"github.com/flix-lab/flix/oca/bgp"
	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// Properties that change an appliance while it runs.
const (
	// PropertyBandwidth caps what it serves ("300M", bits per second); unset
	// is the declared bandwidth.
	PropertyBandwidth = "oca.bandwidth"
	// PropertyFillBandwidth caps what it fills.
	PropertyFillBandwidth = "oca.fill_bandwidth"
	// PropertyMaxConnections is the number of client connections from which
	// it calls itself unhealthy.
	PropertyMaxConnections = "oca.max_connections"
)

// defaultMaxConnections applies while PropertyMaxConnections is not set.
const defaultMaxConnections = 10000

// Deps is what an appliance needs.
type Deps struct {
	// Client serves TLS to clients; the server closes it.
	Client net.Listener
	// TLS holds the certificate of the host in ClientURL.
	TLS *tls.Config
	// Fill serves plain HTTP to other appliances; the server closes it.
	Fill net.Listener
	// Plain serves clients without TLS, for browsers on the lab's machine; the
	// server closes it. nil serves none.
	Plain net.Listener
	// Dir holds the store. Nobody else may use it.
	Dir string
	// Fsync makes files durable before they are reported stored. Without it
	// they survive the process, but a crash of the machine may lose some, which
	// the next start finds out and fills again.
	Fsync bool
	// ID, Site, Region and Appliance say who the appliance is, as declared.
	ID        services.ApplianceID
	Site      topology.Site
	Region    string
	Appliance topology.Appliance
	// ClientURL and FillURL are the bases under which Client and Fill are
	// reached, without a slash at the end.
	ClientURL, FillURL string
	// PlainURL is that of Plain; "" if there is none.
	PlainURL string
	// Control picks a cache control that can be reached, the nearest first,
	// and says in which region it is.
	Control func(ctx context.Context) (c pb.CacheControlClient, region string, err error)
	// Dial opens connections to object stores and other appliances; nil dials
	// directly.
	Dial services.DialFunc
	// BGP learns the site's routes from its router; the server runs it. nil
	// announces the declared prefixes.
	BGP *bgp.Speaker
	// BGPAddr is where the router may connect; informative.
	BGPAddr string
	// Key verifies URLs and signs fill requests.
	Key token.Key
	// Tel is the instance's instruments.
	Tel *telemetry.Telemetry
	// Timing holds every interval.
	Timing topology.Timing
	// TrustedProxies are the peers that must, and may, send a PROXY protocol
	// header.
	TrustedProxies []netip.Prefix
	// NoAuth serves every client and appliance without a token.
	NoAuth bool
	// Clock is the wall clock; nil means time.Now.
	Clock func() time.Time
	// Disk is an injected fault of the disk; nil is never any.
	Disk func() DiskFault
}

// Server is one appliance. Use New.
type Server struct {
	d         Deps
	store     *store
	announces atomic.Pointer[announced]
	learning  sync.Mutex // a Hello, or what changes after it
	metrics   *metrics
	outbox    *outbox
	filler    *filler
	doubts    *doubts
	admitted  admitted
	access    *access.Log
	traffic   traffic
	client    *wire.Server
	plain     *wire.Server // nil without Deps.Plain
	fill      *wire.Server

	serveBucket, fillInBucket, fillOutBucket bucket

	sent           atomic.Uint64 // bytes to clients since start
	inFlight       atomic.Int64  // requests of clients
	maxConnections atomic.Int64
	bandwidth      atomic.Int64 // bits per second now
	health         *health
	governor       governor // of the health loop
}

// New opens the appliance's store. The store is closed by Serve.
func New(d Deps) (*Server, error) {
	for name, missing := range map[string]bool{"Client": d.Client == nil, "TLS": d.TLS == nil, "Fill": d.Fill == nil, "Dir": d.Dir == "", "ID": d.ID == "", "Control": d.Control == nil, "Tel": d.Tel == nil} {
		if missing {
			return nil, services.Errorf(services.Invalid, "oca: Deps.%s is missing", name)
		}
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Dial == nil {
		d.Dial = (&net.Dialer{}).DialContext
	}
	s := &Server{d: d, doubts: newDoubts(), health: newHealth(), access: access.New(io.Discard)}
	var prefixes []netip.Prefix
	for _, p := range d.Site.Prefixes {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return nil, services.Errorf(services.Invalid, "oca: site %s: %v", d.Site.Name, err)
		}
		prefixes = append(prefixes, prefix)
	}
	s.announces.Store(declared(prefixes))
	if d.BGP != nil {
		s.announces.Store(learned(nil))
	}
	var err error
	if s.store, err = openStore(storeConfig{dir: d.Dir, capacity: uint64(d.Appliance.Capacity), fsync: d.Fsync, now: d.Clock(), patience: d.Timing.RPCTimeout.D()}); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s)
	s.outbox = newOutbox(s.store.epoch << epochShift)
	if d.Disk != nil {
		s.store.fault = d.Disk
	}
	s.store.onChange = s.changed
	s.filler = newFiller(s)
	s.listen()
	s.setProperty(PropertyBandwidth, "")
	s.setProperty(PropertyFillBandwidth, "")
	s.setProperty(PropertyMaxConnections, "")
	d.Tel.Properties.Watch(s.setProperty)
	return s, nil
}

// Serve implements services.Unit.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.client.Serve(ctx, s.d.Client) })
	group.Go(func() error { return s.fill.Serve(ctx, s.d.Fill) })
	if s.plain != nil {
		group.Go(func() error { return s.plain.Serve(ctx, s.d.Plain) })
	}
	if s.d.BGP != nil {
		group.Go(func() error { return s.d.BGP.Serve(ctx) })
		group.Go(func() error { return s.learnLoop(ctx) })
	}
	group.Go(func() error { return s.controlLoop(ctx) })
	group.Go(func() error { return s.verifyLoop(ctx) })
	group.Go(func() error { return s.scrubLoop(ctx) })
	group.Go(func() error { return s.healthLoop(ctx) })
	group.Go(func() error { return s.logLoop(ctx) })
	group.Go(func() error { return s.filler.run(ctx) })
	err := group.Wait()
	if cerr := s.store.close(); err == nil {
		err = cerr
	}
	return err
}

// setProperty takes a property; a value that cannot be read leaves the setting
// as it is and is logged.
func (s *Server) setProperty(name, value string) {
	declared := s.d.Appliance.Bandwidth
	switch name {
	case PropertyBandwidth:
		r, err := rateOr(value, declared)
		if err != nil {
			s.d.Tel.Log.Error("property ignored", "name", name, "error", err)
			return
		}
		s.bandwidth.Store(int64(r))
		s.serveBucket.set(r)
	case PropertyFillBandwidth:
		if s.d.Appliance.FillBandwidth > 0 {
			declared = s.d.Appliance.FillBandwidth
		}
		r, err := rateOr(value, declared)
		if err != nil {
			s.d.Tel.Log.Error("property ignored", "name", name, "error", err)
			return
		}
		s.fillInBucket.set(r)
		s.fillOutBucket.set(r)
	case PropertyMaxConnections:
		n := int64(defaultMaxConnections)
		if value != "" {
			v, err := strconv.ParseInt(value, 10, 64)
			if err != nil || v <= 0 {
				s.d.Tel.Log.Error("property ignored: want a positive number", "name", name, "value", value)
				return
			}
			n = v
		}
		s.maxConnections.Store(n)
	}
}

func rateOr(value string, declared topology.Rate) (topology.Rate, error) {
	if value == "" {
		return declared, nil
	}
	return topology.ParseRate(value)
}
