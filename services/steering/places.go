package steering

import (
	"net/netip"
	"sync"
	"time"

	"github.com/gaissmai/bart"

	"github.com/flix-lab/flix/topology"
)

// regionNames number the regions; a number is for good.
type regionNames struct {
	mu  sync.Mutex
	ids map[string]int
}

func (n *regionNames) of(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ids == nil {
		n.ids = map[string]int{}
	}
	id, ok := n.ids[name]
	if !ok {
		id = len(n.ids)
		n.ids[name] = id
	}
	return id
}

// len is how many regions have a number.
func (n *regionNames) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ids)
}

// places says where networks are and how far regions are apart; immutable.
type places struct {
	regions  bart.Table[int]
	distance [][]time.Duration // by number of region; 0 on the diagonal
	here     int
}

// newPlaces reads a topology; here is the region of this instance.
func newPlaces(t topology.Topology, names *regionNames, here string) *places {
	p := &places{here: names.of(here)}
	size := p.here + 1
	for _, r := range t.Regions {
		size = max(size, names.of(r.Name)+1)
	}
	p.distance = make([][]time.Duration, size)
	for i := range p.distance {
		p.distance[i] = make([]time.Duration, size)
		for j := range p.distance[i] {
			if i != j {
				p.distance[i][j] = farthest
			}
		}
	}
	for _, a := range t.Regions {
		for _, b := range t.Regions {
			if a.Name != b.Name {
				p.distance[names.of(a.Name)][names.of(b.Name)] = t.RTT(a.Name, b.Name).D()
			}
		}
		for _, isp := range a.ISPs {
			for _, prefix := range isp.Prefixes {
				p.regions.Insert(prefix, names.of(a.Name))
			}
		}
	}
	return p
}

// farthest stands for a distance that nobody declared.
const farthest = time.Hour

// far is the distance between two regions.
func (p *places) far(a, b int) time.Duration {
	switch {
	case a == b:
		return 0
	case a < len(p.distance) && b < len(p.distance):
		return p.distance[a][b]
	}
	return farthest
}

// regionOf is where a client is: where its network is declared to be, else
// where the exchange is that announces it, else whoever does, else here.
func (p *places) regionOf(addr netip.Addr, announced []reach) int {
	if r, ok := p.regions.Lookup(addr); ok {
		return r
	}
	for i := range announced {
		if announced[i].g.class != embedded {
			return announced[i].g.region
		}
	}
	if len(announced) > 0 {
		return announced[0].g.region
	}
	return p.here
}
