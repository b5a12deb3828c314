package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

const (
	// ownWarmingRate bounds what a warming that nobody asked for copies in a
	// second: readers of the zone find what is missing in another meanwhile.
	ownWarmingRate = 10_000
	// ownWarmingTries bound the wait, a second each, for a zone that does not
	// answer or that no other can fill.
	ownWarmingTries = 30
)

// coldZones fills zones of the cache whose server was replaced, and new ones,
// without being asked. Use newColdZones, then look once and again, then wait.
type coldZones struct {
	warm func(ctx context.Context, region, zone string) error
	log  *control.Log
	// started is when each cache server began, as it was seen last.
	started map[string]time.Time
	wg      sync.WaitGroup

	mu   sync.Mutex
	cold map[coldZone]*attempts
}

type coldZone struct{ region, zone string }

type attempts struct {
	n    int
	busy bool
}

func newColdZones(l *Lab) *coldZones {
	return &coldZones{
		log: l.log, started: map[string]time.Time{}, cold: map[coldZone]*attempts{},
		warm: func(ctx context.Context, region, zone string) error {
			_, err := l.CacheWarm(ctx, control.CacheWarmRequest{Region: region, Zone: zone, KeepMode: true, PerSecond: ownWarmingRate}, func(control.Event) {})
			return err
		},
	}
}

// look compares the cache servers that run with those that did, and begins to
// fill the zones of which one is new: in a region where another zone has been
// there before, for there is nothing to fill it from elsewhere.
func (c *coldZones) look(ctx context.Context, live []runtime.Instance) {
	old := map[string]bool{} // regions with a server that stayed
	var fresh []coldZone
	for _, i := range live {
		if i.Spec.Role != topology.RoleEVCache || i.State != runtime.Running {
			continue
		}
		was, known := c.started[i.Spec.ID]
		c.started[i.Spec.ID] = i.Started
		if known && was.Equal(i.Started) {
			old[i.Spec.Region] = true
			continue
		}
		fresh = append(fresh, coldZone{i.Spec.Region, i.Spec.Zone})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, z := range fresh {
		if old[z.region] && c.cold[z] == nil {
			c.cold[z] = &attempts{}
		}
	}
	for z, a := range c.cold {
		if !a.busy {
			a.busy = true
			c.wg.Go(func() { c.fill(ctx, z, a) })
		}
	}
}

// fill warms a zone once; what fails for want of an answer is tried again.
func (c *coldZones) fill(ctx context.Context, z coldZone, a *attempts) {
	err := c.warm(ctx, z.region, z.zone)
	c.mu.Lock()
	defer c.mu.Unlock()
	a.busy = false
	a.n++
	switch {
	case err == nil, services.KindOf(err) == services.Conflict: // somebody warms it
		delete(c.cold, z)
	case errors.Is(err, context.Canceled):
	case a.n >= ownWarmingTries:
		delete(c.cold, z)
		c.log.Add("cache.cold", z.region+"/"+z.zone, fmt.Sprintf("the cache of zone %s stays as it is, it could not be filled: %v", z.zone, err), nil)
	}
}

// wait returns when nothing is being filled any more; the context that look got
// must have ended.
func (c *coldZones) wait() { c.wg.Wait() }
