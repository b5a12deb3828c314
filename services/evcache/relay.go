package evcache

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
)

// DefaultRelayAge is how old an event may be to be followed: what a region has
// missed for longer it reads anew.
const DefaultRelayAge = 10 * time.Minute

// RelayConfig is what a relay needs.
type RelayConfig struct {
	// Region that is told of writes.
	Region string
	// From is the cache of the own region, To that of Region. Both are without
	// a prefix, and To tells nobody of what it writes.
	From, To *Client
	// MaxAge of an event that is followed; 0 for DefaultRelayAge.
	MaxAge time.Duration
	// Metrics take evcache_relayed_total.
	Metrics prometheus.Registerer
}

// Relay has another region's cache follow the own one. It is told of a write by
// a CacheEvent without the value: it reads that from the own cache, so that it
// passes on the latest, and stores it there with what remains of its time to
// live. Two regions that write a key at the same time may end with one
// another's value.
type Relay struct {
	cfg     RelayConfig
	relayed *prometheus.CounterVec
}

// NewRelay makes a relay.
func NewRelay(c RelayConfig) (*Relay, error) {
	if c.From == nil || c.To == nil || c.Metrics == nil || c.Region == "" {
		return nil, services.Errorf(services.Invalid, "evcache.NewRelay: Region, From, To and Metrics are required")
	}
	if c.MaxAge <= 0 {
		c.MaxAge = DefaultRelayAge
	}
	return &Relay{cfg: c, relayed: counterVec(c.Metrics, "evcache_relayed_total", "Writes passed on to other regions, by result: ok, gone (no longer in the cache), old (missed for too long) or retried.", "region", "result")}, nil
}

// Handle follows one event. It fails while the other region's cache or the own
// one cannot be reached, and is to be called again then.
func (r *Relay) Handle(ctx context.Context, e events.CacheEvent) error {
	result, err := r.follow(ctx, e)
	if err != nil {
		result = "retried"
	}
	r.relayed.WithLabelValues(r.cfg.Region, result).Inc()
	return services.Wrap("evcache.Relay "+r.cfg.Region, err)
}

func (r *Relay) follow(ctx context.Context, e events.CacheEvent) (string, error) {
	now := time.Now()
	if e.Key == "" {
		return "", services.Errorf(services.Invalid, "the event has no key")
	}
	if now.Sub(e.At) > r.cfg.MaxAge {
		return "old", nil
	}
	id, _ := appendKey(nil, "", e.Key, r.cfg.From.cfg.MaxPlainKey)
	switch e.Kind {
	case verbDelete, verbInvalidate:
		return "ok", r.cfg.To.each(ctx, func(ctx context.Context, z *zone) error { return r.cfg.To.lay.any().deleteIn(ctx, z, id) })
	case verbSet, verbTouch:
	default:
		return "", services.Errorf(services.Invalid, "the event's kind %q is none", e.Kind)
	}
	f, err := r.cfg.From.fleet()
	if err != nil {
		return "", err
	}
	v, err := r.cfg.From.lay.any().lookAny(ctx, f.reads, id)
	if errors.Is(err, ErrMiss) {
		return "gone", nil
	}
	if err != nil {
		return "", err
	}
	exp, ok := expiryOf(v.ttl, now)
	if !ok {
		return "gone", nil
	}
	return "ok", r.cfg.To.each(ctx, func(ctx context.Context, z *zone) error { return r.cfg.To.lay.any().putIn(ctx, z, id, v, exp) })
}

// each does something in every zone that is written, and waits for as many as
// the policy asks.
func (c *Client) each(ctx context.Context, do func(context.Context, *zone) error) error {
	f, err := c.fleet()
	if err != nil {
		return err
	}
	answers := make(chan zoneAnswer, len(f.allWrites))
	late := context.WithoutCancel(ctx)
	for _, z := range f.allWrites {
		if err := c.spawn(func() { answers <- zoneAnswer{z.name, true, do(late, z)} }); err != nil {
			answers <- zoneAnswer{z.name, true, err}
		}
	}
	_, err = wait(ctx, answers, c.cfg.Policy.need(len(f.writes)), len(f.allWrites))
	return err
}

// Repairer makes a zone follow its siblings where it did not take a write.
type Repairer struct {
	zone     string
	cache    *Client
	repaired *prometheus.CounterVec
}

// NewRepairer makes a repairer of one zone. The cache is without a prefix.
func NewRepairer(zone string, cache *Client, metrics prometheus.Registerer) *Repairer {
	return &Repairer{zone: zone, cache: cache, repaired: counterVec(metrics, "evcache_repaired_total", "Writes that the zone had not taken, by result: ok or retried.", "result")}
}

// Handle makes good one write that failed: the zone gets what its siblings hold
// now, or nothing if they hold nothing, as an old value is worse than none. It
// fails while the zone or a sibling cannot be reached, and is to be called
// again then. Events of other zones are passed over.
func (r *Repairer) Handle(ctx context.Context, e events.CacheEvent) error {
	if e.Zone != r.zone || time.Since(e.At) > DefaultRelayAge {
		return nil
	}
	err := r.repair(ctx, e)
	if err != nil {
		r.repaired.WithLabelValues("retried").Inc()
		return services.Wrap("evcache.Repairer "+r.zone, err)
	}
	r.repaired.WithLabelValues("ok").Inc()
	return nil
}

func (r *Repairer) repair(ctx context.Context, e events.CacheEvent) error {
	if e.Key == "" {
		return services.Errorf(services.Invalid, "the event has no key")
	}
	z, err := r.cache.zone(r.zone)
	if err != nil {
		return err
	}
	f, err := r.cache.fleet()
	if err != nil {
		return err
	}
	var siblings []*zone
	for _, s := range f.reads {
		if s.name != r.zone {
			siblings = append(siblings, s)
		}
	}
	id, _ := appendKey(nil, "", e.Key, r.cache.cfg.MaxPlainKey)
	return r.cache.lay.any().mirror(ctx, z, siblings, id)
}
