package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/topology"
)

// cacheStatsTime bounds one question to a cache server.
const cacheStatsTime = time.Second

// maxShownKey bounds a key that an operator may name, in bytes.
const maxShownKey = 8 << 10

// cacheNodes are a region's cache servers as they are wanted.
func (l *Lab) cacheNodes(region string) []evcache.Node {
	i := l.current()
	if i == nil {
		return nil
	}
	var out []evcache.Node
	for _, inst := range i.instances() {
		if inst.Region != region || inst.Role != topology.RoleEVCache {
			continue
		}
		if s, err := l.spec(i, inst); err == nil {
			out = append(out, evcache.Node{Addr: s.Addr(topology.PortRPC), Zone: inst.Zone, Instance: string(inst.ID)})
		}
	}
	return out
}

// cacheMode is what a region's zone is used for.
func (i *intent) cacheMode(region, zone string) evcache.Mode {
	m, err := evcache.ParseMode(i.Properties[region][topology.RoleEVCache][propCacheMode+zone])
	if err != nil {
		return evcache.ReadWrite // a client reads it so, too
	}
	return m
}

// cacheReplication is what a region's services tell other regions.
func (i *intent) cacheReplication(region string) evcache.Replication {
	return replicationOf(i.Properties[region][topology.RoleEVCache][propCacheReplication])
}

// cacheRegion checks the name of a region, or names the first with a cache.
func (l *Lab) cacheRegion(name string) (string, error) {
	i, err := l.need()
	if err != nil {
		return "", err
	}
	names := i.Topology.RegionNames()
	if name != "" && !slices.Contains(names, name) {
		return "", services.Wrap("--region", noRegion(name, i.Topology))
	}
	for _, r := range names {
		if (name == "" || r == name) && len(l.cacheNodes(r)) > 0 {
			return r, nil
		}
	}
	if name == "" {
		name = "any region"
	}
	return "", services.Errorf(services.NotFound, "the topology has no evcache in %s", name).WithRemedy("add the role evcache and run flix lab up")
}

// cache returns a client of a region's cache that knows no application: its
// keys are canonical ones.
func (l *Lab) cache(region string, policy evcache.Policy, repl evcache.Replication) (*evcache.Client, error) {
	c, err := kept(l.remote, fmt.Sprintf("cache of %s %v %v", region, policy, repl), func() (*evcache.Client, error) {
		cfg := cacheConfig(l.remote.tel)
		cfg.Servers = func() []evcache.Node { return l.cacheNodes(region) }
		cfg.Policy, cfg.Replication, cfg.Hot = policy, repl, evcache.Hot{}
		cfg.Timeouts = evcache.Timeouts{Read: time.Second}
		// An operator who writes a key looks at the zones next.
		cfg.Linger = 2 * time.Second
		if len(l.addresses(region, topology.RoleKafka)) > 0 {
			cfg.Events = &lazyProducer{c: events.ProducerConfig{Brokers: l.kafka(region), ClientID: "daemon", Tel: l.remote.tel}}
		}
		return evcache.New(cfg)
	})
	if err != nil {
		return nil, err
	}
	i := l.current()
	for _, n := range l.cacheNodes(region) {
		c.SetMode(n.Zone, i.cacheMode(region, n.Zone))
	}
	return c, nil
}

// CacheStatus implements control.Engine.
func (l *Lab) CacheStatus(ctx context.Context, region string) (control.CacheStatus, error) {
	out := control.CacheStatus{Regions: []control.CacheRegion{}}
	i, err := l.need()
	if err != nil {
		return out, err
	}
	if region != "" {
		if region, err = l.cacheRegion(region); err != nil {
			return out, err
		}
	}
	for _, name := range i.Topology.RegionNames() {
		if region == "" || name == region {
			out.Regions = append(out.Regions, l.cacheStatus(ctx, i, name))
		}
	}
	return out, nil
}

func (l *Lab) cacheStatus(ctx context.Context, i *intent, region string) control.CacheRegion {
	r := control.CacheRegion{Region: region, Replication: i.cacheReplication(region).String(), Zones: []control.CacheZone{}}
	var g errgroup.Group
	for _, inst := range i.instances() {
		if inst.Region != region || inst.Role != topology.RoleEVCache {
			continue
		}
		at := slices.IndexFunc(r.Zones, func(z control.CacheZone) bool { return z.Zone == inst.Zone })
		if at < 0 {
			at = len(r.Zones)
			r.Zones = append(r.Zones, control.CacheZone{Zone: inst.Zone, Mode: i.cacheMode(region, inst.Zone).String(), Warming: l.warmingOf(region, inst.Zone)})
		}
		s := control.CacheServer{Instance: inst.ID}
		if spec, err := l.spec(i, inst); err == nil {
			s.Address = spec.Addr(topology.PortRPC)
		}
		r.Zones[at].Servers = append(r.Zones[at].Servers, s)
	}
	for z := range r.Zones {
		for s := range r.Zones[z].Servers {
			g.Go(func() error { askCacheServer(ctx, &r.Zones[z].Servers[s]); return nil })
		}
	}
	_ = g.Wait() // each server's failure is in its own line
	for z := range r.Zones {
		sumCacheZone(&r.Zones[z])
	}
	return r
}

func askCacheServer(ctx context.Context, s *control.CacheServer) {
	ctx, cancel := context.WithTimeout(ctx, cacheStatsTime)
	defer cancel()
	stats, err := evcache.Stats(ctx, (&net.Dialer{}).DialContext, s.Address)
	if err != nil {
		s.Error = err.Error()
		return
	}
	n := func(name string) int64 {
		v, err := strconv.ParseInt(stats[name], 10, 64)
		if err != nil {
			s.Error = fmt.Sprintf("it does not tell %s", name)
		}
		return v
	}
	s.Up, s.Version, s.UptimeS = true, stats["version"], n("uptime")
	s.Items, s.Bytes, s.LimitBytes = n("curr_items"), n("bytes"), n("limit_maxbytes")
	s.Hits, s.Misses, s.Sets = n("get_hits"), n("get_misses"), n("cmd_set")
	s.Evictions, s.Connections = n("evictions"), n("curr_connections")
}

func sumCacheZone(z *control.CacheZone) {
	var hits, reads int64
	for _, s := range z.Servers {
		z.Items += s.Items
		z.Bytes += s.Bytes
		hits += s.Hits
		reads += s.Hits + s.Misses
	}
	if reads > 0 {
		z.HitRatio = float64(hits) / float64(reads)
	}
}

// canonical is the key under which an application's item lies.
func canonical(k control.CacheKey) (string, error) {
	switch {
	case k.Key == "":
		return "", services.Errorf(services.Invalid, "the key is empty").WithRemedy("name one: flix cache get KEY")
	case len(k.Key) > maxShownKey || !utf8.ValidString(k.Key):
		return "", services.Errorf(services.Invalid, "the key is no text of up to %d bytes", maxShownKey)
	case len(k.App) > 49 || strings.ContainsFunc(k.App, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
		return "", services.Errorf(services.Invalid, "--app: %.60q is not up to 49 letters without blanks and colons", k.App)
	case k.App == "":
		return k.Key, nil
	}
	return k.App + ":" + k.Key, nil
}

// CacheGet implements control.Engine.
func (l *Lab) CacheGet(ctx context.Context, r control.CacheKey) (control.CacheItem, error) {
	region, err := l.cacheRegion(r.Region)
	if err != nil {
		return control.CacheItem{}, err
	}
	key, err := canonical(r)
	if err != nil {
		return control.CacheItem{}, err
	}
	c, err := l.cache(region, evcache.AllMinusOne, evcache.ReplicateValues)
	if err != nil {
		return control.CacheItem{}, err
	}
	var it evcache.Item
	if r.Zone != "" {
		it, err = c.GetItemIn(ctx, r.Zone, key)
	} else {
		it, err = c.GetItem(ctx, key)
	}
	if errors.Is(err, evcache.ErrMiss) {
		where := region
		if r.Zone != "" {
			where += "/" + r.Zone
		}
		return control.CacheItem{}, services.Errorf(services.NotFound, "the cache of %s has no %q", where, key).WithRemedy("see what there is: flix cache status; --app names another application's keys")
	}
	if err != nil {
		return control.CacheItem{}, err
	}
	out := control.CacheItem{
		Region: region, Zone: it.Zone, Key: key, Kind: it.Kind.String(), Value: it.Value, Bytes: len(it.Value),
		StoredBytes: it.Stored, Compressed: it.Compressed, Chunks: it.Chunks, Hashed: it.Hashed,
	}
	if text := it.String(); utf8.ValidString(text) && it.Kind != evcache.Object {
		out.Text = text
	}
	return out, nil
}

// CacheSet implements control.Engine.
func (l *Lab) CacheSet(ctx context.Context, r control.CacheSetRequest) (control.CacheWritten, error) {
	kind := evcache.Text
	if r.Binary {
		kind = evcache.Bytes
	}
	ttl := time.Duration(r.TTLMS * float64(time.Millisecond))
	if r.TTLMS < 0 || r.TTLMS > float64((10*365*24*time.Hour).Milliseconds()) {
		return control.CacheWritten{}, services.Errorf(services.Invalid, "--ttl: %v is not between 0 and ten years", ttl).WithRemedy("write it like 30s; 0 keeps the item until it is evicted")
	}
	out, err := l.cacheWrite(ctx, r.CacheKey, r.Policy, r.Replication, func(ctx context.Context, c *evcache.Client, key string) error {
		return c.SetAs(ctx, key, r.Value, kind, ttl)
	})
	out.Bytes = len(r.Value)
	return out, err
}

// CacheDelete implements control.Engine.
func (l *Lab) CacheDelete(ctx context.Context, r control.CacheKey) (control.CacheWritten, error) {
	return l.cacheWrite(ctx, r, "", "", func(ctx context.Context, c *evcache.Client, key string) error { return c.Delete(ctx, key) })
}

// cacheWrite does a write in a region, and has the other regions follow unless
// it is told otherwise.
func (l *Lab) cacheWrite(ctx context.Context, k control.CacheKey, policy, repl string, do func(context.Context, *evcache.Client, string) error) (control.CacheWritten, error) {
	start := time.Now()
	region, err := l.cacheRegion(k.Region)
	if err != nil {
		return control.CacheWritten{}, err
	}
	key, err := canonical(k)
	if err != nil {
		return control.CacheWritten{}, err
	}
	p, perr := evcache.ParsePolicy(policy)
	rep, rerr := evcache.ReplicateValues, error(nil)
	if repl != "" {
		rep, rerr = evcache.ParseReplication(repl)
	}
	if err := errors.Join(perr, rerr); err != nil {
		return control.CacheWritten{}, err
	}
	c, err := l.cache(region, p, rep)
	if err != nil {
		return control.CacheWritten{}, err
	}
	out := control.CacheWritten{Region: region, Key: key, Policy: p.String(), Replication: rep.String(), Zones: []string{}}
	told := map[string]error{}
	err = do(evcache.TellZones(ctx, func(zone string, err error) { told[zone] = err }), c, key)
	out.MS = float64(time.Since(start).Microseconds()) / 1000
	sortZones(&out, l.writtenZones(region), told)
	return out, err
}

// writtenZones are the zones of a region's cache that take writes.
func (l *Lab) writtenZones(region string) []string {
	var out []string
	for _, n := range l.cacheNodes(region) {
		if l.current().cacheMode(region, n.Zone) != evcache.ReadOnly && !slices.Contains(out, n.Zone) {
			out = append(out, n.Zone)
		}
	}
	return out
}

// sortZones says in which of the zones a write has been taken, by what they told.
func sortZones(w *control.CacheWritten, zones []string, told map[string]error) {
	for _, z := range zones {
		switch err, ok := told[z]; {
		case !ok:
			w.Failed = append(w.Failed, control.CacheZoneError{Zone: z, Error: "it has not answered yet"})
		case err != nil:
			w.Failed = append(w.Failed, control.CacheZoneError{Zone: z, Error: err.Error()})
		default:
			w.Zones = append(w.Zones, z)
		}
	}
}
