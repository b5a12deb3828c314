package steering

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"

	"github.com/flix-lab/flix/topology"
)

// appliance is the part of an appliance that seldom changes; immutable but
// for its health.
type appliance struct {
	id, site, region, kind, url string
	isp                         bool
	prefixes                    []netip.Prefix
	slot                        int
	weight                      float64 // bandwidth, in bits per second
	seed                        uint64
	health                      *atomic.Pointer[health]
}

// health is an appliance's last report.
type health struct {
	ok     bool
	reason string
	load   float64 // of the bottleneck, 0 to 1, in steps: see step
	heard  time.Time
}

func newHealth() *atomic.Pointer[health] {
	p := new(atomic.Pointer[health])
	p.Store(&health{reason: "never reported"})
	return p
}

// table says who announces what; immutable.
type table struct {
	routes bart.Table[[]*appliance]
	// exchanges and isps by id.
	exchanges, isps []*appliance
}

func newTable(all map[string]*known) *table {
	t := &table{}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		a := all[id].app
		if a.isp {
			t.isps = append(t.isps, a)
		} else {
			t.exchanges = append(t.exchanges, a)
		}
		for _, p := range a.prefixes {
			t.routes.Modify(p, func(have []*appliance, _ bool) ([]*appliance, bool) {
				if slices.Contains(have, a) {
					return have, false
				}
				return append(have, a), false
			})
		}
	}
	return t
}

// places says where networks are and how far regions are apart; immutable.
type places struct {
	regions  bart.Table[string]
	distance map[[2]string]time.Duration
}

func newPlaces(t topology.Topology) *places {
	p := &places{distance: map[[2]string]time.Duration{}}
	for _, a := range t.Regions {
		for _, b := range t.Regions {
			p.distance[[2]string{a.Name, b.Name}] = t.RTT(a.Name, b.Name).D()
		}
		for _, isp := range a.ISPs {
			for _, prefix := range isp.Prefixes {
				p.regions.Insert(prefix, a.Name)
			}
		}
	}
	return p
}

// farthest stands for a distance that nobody declared.
const farthest = time.Hour

// far is the distance between two regions.
func (p *places) far(a, b string) time.Duration {
	if a == b {
		return 0
	}
	if d, ok := p.distance[[2]string{a, b}]; ok {
		return d
	}
	return farthest
}

// region is where a client is: where its network is declared to be, else
// where the exchange is that announces it, else here.
func (s *Server) region(p *places, addr netip.Addr, pool []candidate) string {
	if r, ok := p.regions.Lookup(addr); ok {
		return r
	}
	for _, c := range pool {
		if !c.app.isp {
			return c.app.region
		}
	}
	if len(pool) > 0 {
		return pool[0].app.region
	}
	return s.deps.Region
}
