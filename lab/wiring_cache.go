package lab

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

const (
	// cachePrefix is the application of every role of the lab.
	cachePrefix = "flix"
	// hotReads is how often an instance reads a key in a second until it
	// answers from its own memory.
	hotReads = 500
	// relayLook is how often a cache instance looks whether it is the one that
	// relays for its region.
	relayLook = time.Second
	// relayLanes are the events that a relay follows at once: each takes a
	// round trip to the other region.
	relayLanes = 64
)

// cacheConfig is what the lab's clients of a cache have in common. Values up to
// memcached's bound lie in one item, longer ones in pieces.
func cacheConfig(tel *telemetry.Telemetry) evcache.Config {
	return evcache.Config{
		ChunkSize: evcache.DefaultChunkSize, ChunkOver: evcache.MaxValue, Hot: evcache.Hot{PerSecond: hotReads}, Tel: tel,
	}
}

// cacheNodesOf are the cache servers that a registry shows.
func cacheNodesOf(reg *lookup.Client) func() []evcache.Node {
	return func() []evcache.Node {
		var out []evcache.Node
		for _, i := range reg.VIP(string(topology.RoleEVCache)) {
			out = append(out, evcache.Node{Addr: i.Addr(topology.PortRPC), Zone: i.Zone})
		}
		return out
	}
}

// cache returns a client of the region's EVCache that reads the unit's zone.
func (u *unit) cache() (*evcache.Client, error) {
	cfg := cacheConfig(u.tel)
	cfg.Servers, cfg.Zone, cfg.Dial, cfg.Prefix = cacheNodesOf(u.local()), u.spec.Zone, u.dial(), cachePrefix
	cfg.Replication = replicationOf(u.tel.Properties.Get(propCacheReplication))
	producer := &lazyProducer{c: events.ProducerConfig{
		Brokers: u.addresses(topology.RoleKafka, topology.PortRPC), Dial: u.dial(), ClientID: u.spec.ID, Tel: u.tel,
	}}
	cfg.Events = producer
	c, err := evcache.New(cfg)
	if err != nil {
		return nil, err
	}
	u.closers = append(u.closers, producer.Close, c.Close) // the client first
	u.tel.Properties.Watch(func(name, value string) {
		if zone, ok := strings.CutPrefix(name, propCacheMode); ok {
			m, err := evcache.ParseMode(value)
			if err != nil {
				u.tel.Log.Error("property is no mode", "property", name, "error", err)
			}
			c.SetMode(zone, m)
		}
		if name == propCacheReplication {
			c.SetReplication(replicationOf(value))
		}
	})
	return c, nil
}

// replicationOf reads a property. What nobody has set is: other regions hear of
// deletions. What they hold of a thing that was deleted is wrong; what they do
// not hold they read from their own stores.
func replicationOf(value string) evcache.Replication {
	r, err := evcache.ParseReplication(value)
	if value == "" || err != nil {
		return evcache.ReplicateDeletes
	}
	return r
}

// lazyProducer is a producer that is made for the first event: most clients of
// a cache never have one.
type lazyProducer struct {
	c events.ProducerConfig

	mu     sync.Mutex
	p      *events.Producer
	closed bool
}

// Send implements evcache.Sender.
func (l *lazyProducer) Send(ctx context.Context, topic, key string, event any) error {
	p, err := l.producer()
	if err != nil {
		return err
	}
	return p.Send(ctx, topic, key, event)
}

func (l *lazyProducer) producer() (*events.Producer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, services.Errorf(services.Unavailable, "the producer is closed")
	}
	if l.p == nil {
		p, err := events.NewProducer(l.c)
		if err != nil {
			return nil, err
		}
		l.p = p
	}
	return l.p, nil
}

// Close sends what is waiting and ends the producer.
func (l *lazyProducer) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	err := l.p.Flush(ctx)
	l.p.Close()
	return err
}

// cacheKeeper is what runs beside a cache server, embedded or real: it makes
// good what its zone did not take, and one of a region passes writes on to the
// others.
type cacheKeeper struct {
	services.Unit // the server, or the sidecar of a real one
	u             *unit
}

// Serve implements services.Unit.
func (k cacheKeeper) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.Unit.Serve(ctx) })
	if !k.u.hasRole(topology.RoleKafka) {
		return g.Wait()
	}
	g.Go(func() error { return k.repair(ctx) })
	g.Go(func() error { k.relay(ctx); return nil })
	return g.Wait()
}

// hasRole says whether the instance's region has a role.
func (u *unit) hasRole(role topology.Role) bool {
	for _, i := range u.w.topology().Instances() {
		if i.Region == u.spec.Region && i.Role == role {
			return true
		}
	}
	return false
}

// bare is a client of a region's cache whose keys are canonical ones, and that
// tells nobody of what it writes.
func (u *unit) bare(region string, p evcache.Policy) (*evcache.Client, error) {
	cfg := cacheConfig(u.tel)
	cfg.Servers, cfg.Zone, cfg.Dial = cacheNodesOf(u.w.lookup(u.spec.Region, region)), u.spec.Zone, u.dial()
	cfg.Hot, cfg.Policy = evcache.Hot{}, p
	if region != u.spec.Region { // the WAN's delay comes on top
		rtt := u.w.topology().RTT(u.spec.Region, region).D()
		cfg.Timeouts = evcache.Timeouts{Dial: time.Second + 2*rtt, Read: time.Second + 2*rtt, Write: 2500*time.Millisecond + 2*rtt}
		cfg.Conns = relayLanes
	}
	return evcache.New(cfg)
}

// repair makes good what the instance's zone did not take.
func (k cacheKeeper) repair(ctx context.Context) error {
	c, err := k.u.bare(k.u.spec.Region, evcache.One)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it has no write of its own under way
	r := evcache.NewRepairer(k.u.spec.Zone, c, k.u.tel.Metrics)
	return events.Consume(ctx, events.ConsumerConfig{
		Brokers: k.u.addresses(topology.RoleKafka, topology.PortRPC), Dial: k.u.dial(), ClientID: k.u.spec.ID, Tel: k.u.tel,
		Group: "evcache.repair." + k.u.spec.Zone, Topics: []string{events.TopicCacheRepairs}, FetchMaxWait: 5 * time.Second,
		Handle: func(ctx context.Context, rec events.Record) error {
			e, err := events.Decode[events.CacheEvent](rec)
			if err != nil {
				return err
			}
			return r.Handle(ctx, e)
		},
	})
}

// relay passes the region's writes on to the others while the instance is the
// first of its region that is registered. Two that think so share the work.
func (k cacheKeeper) relay(ctx context.Context) {
	changed := make(chan struct{}, 1)
	var looks sync.WaitGroup
	defer looks.Wait()
	looks.Go(func() {
		t := time.NewTicker(relayLook)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				poke(changed)
			}
		}
	})
	keep(ctx, func() []string {
		for _, i := range k.u.local().VIP(string(topology.RoleEVCache)) {
			if i.ID < k.u.spec.ID {
				return nil
			}
		}
		return k.u.w.otherRegions(k.u.spec.Region)
	}, changed, func(ctx context.Context, region string) {
		if err := k.relayTo(ctx, region); err != nil {
			k.u.tel.Log.Error("cache writes are not passed on", "region", region, "error", err)
		}
	})
}

func (k cacheKeeper) relayTo(ctx context.Context, region string) error {
	from, err := k.u.bare(k.u.spec.Region, evcache.One)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // it only reads
	to, err := k.u.bare(region, evcache.AllMinusOne)
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }() // it waits for its writes
	r, err := evcache.NewRelay(evcache.RelayConfig{Region: region, From: from, To: to, Metrics: k.u.tel.Metrics})
	if err != nil {
		return err
	}
	return events.Consume(ctx, events.ConsumerConfig{
		Brokers: k.u.addresses(topology.RoleKafka, topology.PortRPC), Dial: k.u.dial(), ClientID: k.u.spec.ID, Tel: k.u.tel,
		Group: "evcache.relay." + region, Topics: []string{events.TopicCacheWrites}, Lanes: relayLanes,
		Handle: func(ctx context.Context, rec events.Record) error {
			e, err := events.Decode[events.CacheEvent](rec)
			if err != nil {
				return err
			}
			return r.Handle(ctx, e)
		},
	})
}
