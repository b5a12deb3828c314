package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/topology"
)

// Properties of every role that uses the cache: propCacheMode and a zone's name
// say what the zone is used for, propCacheReplication what other regions are
// told of writes. They are kept with the role evcache, too, which is where they
// are read back.
const (
	propCacheMode        = "evcache.mode."
	propCacheReplication = "evcache.replication"
)

// cacheUsers are the roles that have a client of the cache.
func cacheUsers() []topology.Role {
	return []topology.Role{
		topology.RolePlayback, topology.RoleRecommend, topology.RoleKeystone, topology.RoleSignup,
		topology.RoleDiscovery, topology.RolePlay, topology.RoleTranscode, topology.RoleEVCache,
	}
}

// zoneOf reads "ZONE" or "REGION/ZONE".
func (l *Lab) zoneOf(region, zone string) (string, string, error) {
	if r, z, ok := strings.Cut(zone, "/"); ok {
		if region != "" && region != r {
			return "", "", services.Errorf(services.Invalid, "zone %s is not in region %s", zone, region).WithRemedy("leave --region out")
		}
		region, zone = r, z
	}
	region, err := l.cacheRegion(region)
	if err != nil {
		return "", "", err
	}
	var have []string
	for _, n := range l.cacheNodes(region) {
		if n.Zone == zone {
			return region, zone, nil
		}
		have = append(have, n.Zone)
	}
	return "", "", services.Errorf(services.NotFound, "region %s has no cache in a zone %q", region, zone).WithRemedy("its zones are %s; name another region's as REGION/ZONE", strings.Join(have, ", "))
}

// tellCacheUsers makes a property what is wanted for every role that uses the
// cache. Of instances that do not answer it is told how many there are; they
// get it when they start.
func (l *Lab) tellCacheUsers(ctx context.Context, region, name, value string) {
	for _, role := range cacheUsers() {
		if err := l.setProperty(ctx, region, role, name, value); err != nil {
			l.log.Add("cache.behind", region, fmt.Sprintf("not every %s knows %s=%q yet: %v", role, name, value, err), nil)
		}
	}
}

// CacheMode implements control.Engine: it returns when every client of the
// region that runs knows.
func (l *Lab) CacheMode(ctx context.Context, r control.CacheModeRequest) (control.CacheStatus, error) {
	if r.Zone != "" {
		region, zone, err := l.zoneOf(r.Region, r.Zone)
		if err != nil {
			return control.CacheStatus{}, err
		}
		m, err := evcache.ParseMode(r.Mode)
		if err != nil {
			return control.CacheStatus{}, err
		}
		if err := l.switchZone(ctx, region, zone, m); err != nil {
			return control.CacheStatus{}, err
		}
		r.Region = region
	}
	if r.Replication != "" {
		repl, err := evcache.ParseReplication(r.Replication)
		if err != nil {
			return control.CacheStatus{}, err
		}
		i, err := l.need()
		if err != nil {
			return control.CacheStatus{}, err
		}
		regions := i.Topology.RegionNames()
		if r.Region != "" {
			if r.Region, err = l.cacheRegion(r.Region); err != nil {
				return control.CacheStatus{}, err
			}
			regions = []string{r.Region}
		}
		for _, region := range regions {
			l.tellCacheUsers(ctx, region, propCacheReplication, repl.String())
			l.log.Add("cache.replication", region, fmt.Sprintf("the services of %s replicate %s of the cache", region, repl), nil)
		}
	}
	return l.CacheStatus(ctx, r.Region)
}

// switchZone sets a zone's mode. One zone of a region has to be read and one
// written.
func (l *Lab) switchZone(ctx context.Context, region, zone string, m evcache.Mode) error {
	i, err := l.need()
	if err != nil {
		return err
	}
	read, written := m != evcache.WriteOnly, m != evcache.ReadOnly
	for _, n := range l.cacheNodes(region) {
		if n.Zone != zone {
			other := i.cacheMode(region, n.Zone)
			read, written = read || other != evcache.WriteOnly, written || other != evcache.ReadOnly
		}
	}
	if !read || !written {
		return services.Errorf(services.Conflict, "no zone of %s would be left to read from and to write to", region).WithRemedy("switch another zone back first: flix cache mode ZONE read-write")
	}
	value := m.String()
	if m == evcache.ReadWrite {
		value = ""
	}
	l.tellCacheUsers(ctx, region, propCacheMode+zone, value)
	l.log.Add("cache.mode", region+"/"+zone, fmt.Sprintf("the cache of zone %s is %s", zone, m), nil)
	return nil
}

// CacheWarm implements control.Engine. While it runs the zone is write-only, so
// that its readers do not miss; then it is what it was.
func (l *Lab) CacheWarm(ctx context.Context, r control.CacheWarmRequest, p control.Progress) (control.CacheWarmed, error) {
	start := time.Now()
	region, zone, err := l.zoneOf(r.Region, r.Zone)
	if err != nil {
		return control.CacheWarmed{}, err
	}
	if _, _, err := l.zoneOf(region, r.From); r.From != "" && err != nil {
		return control.CacheWarmed{}, err
	}
	if r.PerSecond < 0 {
		return control.CacheWarmed{}, services.Errorf(services.Invalid, "--rate: %d items a second is no rate", r.PerSecond)
	}
	done, err := l.beginWarming(region, zone)
	if err != nil {
		return control.CacheWarmed{}, err
	}
	defer done()
	before := l.current().cacheMode(region, zone)
	if !r.KeepMode && before != evcache.WriteOnly {
		if err := l.switchZone(ctx, region, zone, evcache.WriteOnly); err != nil {
			return control.CacheWarmed{}, err
		}
		defer func() { // also when the client is gone
			back, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
			defer cancel()
			if err := l.switchZone(back, region, zone, before); err != nil {
				l.log.Add("cache.behind", region+"/"+zone, "the zone is still write-only: "+err.Error(), nil)
			}
		}()
	}
	c, err := l.cache(region, evcache.AllMinusOne, evcache.ReplicateNone)
	if err != nil {
		return control.CacheWarmed{}, err
	}
	w, err := c.Warm(ctx, evcache.WarmOptions{Zone: zone, From: r.From, PerSecond: r.PerSecond, Progress: func(w evcache.Warmed) {
		l.noteWarming(region, zone, w)
		p(control.Event{At: time.Now(), Kind: "cache.warming", Subject: region + "/" + zone, Text: warmText(w), Data: map[string]any{"percent": w.Percent(), "copied": w.Copied, "items": w.Items}})
	}})
	out := control.CacheWarmed{Region: region, Warmed: w, Percent: w.Percent(), MS: float64(time.Since(start).Microseconds()) / 1000}
	if err != nil {
		return out, err
	}
	out.Percent = 100
	l.log.Add("cache.warm", region+"/"+zone, warmText(w), nil)
	return out, nil
}

func warmText(w evcache.Warmed) string {
	return fmt.Sprintf("%d of about %d items from zone %s: %d copied, %d were there, %d ended", w.Copied+w.Kept+w.Gone, w.Items, w.From, w.Copied, w.Kept, w.Gone)
}

// beginWarming takes note that a zone is being warmed; done takes it back.
func (l *Lab) beginWarming(region, zone string) (done func(), err error) {
	key := region + "/" + zone
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.warming == nil {
		l.warming = map[string]evcache.Warmed{}
	}
	if _, runs := l.warming[key]; runs {
		return nil, services.Errorf(services.Conflict, "zone %s is being warmed already", key).WithRemedy("flix cache status shows how far it is")
	}
	l.warming[key] = evcache.Warmed{Zone: zone}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.warming, key)
	}, nil
}

func (l *Lab) noteWarming(region, zone string, w evcache.Warmed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.warming[region+"/"+zone] = w
}

// warmingOf is how far the warming of a zone is; nil if there is none.
func (l *Lab) warmingOf(region, zone string) *evcache.Warmed {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.warming[region+"/"+zone]; ok {
		return &w
	}
	return nil
}

// CacheCheck implements control.Engine.
func (l *Lab) CacheCheck(ctx context.Context, r control.CacheCheckRequest) (control.CacheChecked, error) {
	start := time.Now()
	out := control.CacheChecked{Equal: true, Regions: []control.CacheRegionChecked{}}
	i, err := l.need()
	if err != nil {
		return out, err
	}
	regions := i.Topology.RegionNames()
	if r.Region != "" {
		region, err := l.cacheRegion(r.Region)
		if err != nil {
			return out, err
		}
		regions = []string{region}
	}
	var errs []error
	for _, region := range regions {
		if len(l.cacheNodes(region)) == 0 {
			continue
		}
		c, err := l.cache(region, evcache.AllMinusOne, evcache.ReplicateNone)
		if err != nil {
			return out, err
		}
		checked, err := c.Check(ctx, evcache.CheckOptions{Sample: r.Sample, Repair: r.Repair})
		if err != nil {
			errs = append(errs, fmt.Errorf("region %s: %w", region, err))
			continue
		}
		out.Equal = out.Equal && len(checked.Differences)+len(checked.LeftOut) == 0
		out.Regions = append(out.Regions, control.CacheRegionChecked{Region: region, Checked: checked})
	}
	out.MS = float64(time.Since(start).Microseconds()) / 1000
	return out, errors.Join(errs...)
}
