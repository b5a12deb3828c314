package wan

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Path is what lies between two regions.
type Path struct {
	// RTT is the round-trip time added to traffic; half of it in each direction.
	RTT time.Duration
	// Rate is the most one connection carries in one direction, in bits per
	// second; 0 is unlimited.
	Rate topology.Rate
	// loss of packets in this direction, 0 to 1, and until when nothing is
	// delivered: what rules add.
	loss float64
	held time.Time
}

// shaped says whether traffic over the path has to be touched at all.
func (p Path) shaped() bool { return p.RTT > 0 || p.Rate > 0 || p.loss > 0 || !p.held.IsZero() }

// Bounds of the bytes under way in one direction of a connection.
const (
	minWindow = 1 << 20
	maxWindow = 64 << 20
	// assumedRate sizes the window of a link that declares no bandwidth.
	assumedRate = topology.Rate(2e9)
)

// window is how many bytes may be under way in one direction before a writer
// has to wait: twice what the path holds at its full rate, so that the window
// never limits throughput below the rate, within fixed bounds for memory.
func (p Path) window() int {
	rate := p.Rate
	if rate == 0 {
		rate = assumedRate
	}
	return min(max(int(rate.BytesPerSecond()*p.RTT.Seconds()), minWindow), maxWindow)
}

// pair is an unordered pair of regions.
type pair struct{ a, b string }

func pairOf(a, b string) pair {
	if a > b {
		a, b = b, a
	}
	return pair{a, b}
}

// Table says where addresses are and how far regions are apart. It is safe for
// concurrent use, and replacing its topology takes effect on the next byte of
// every connection it already delays.
type Table struct {
	locate func(addr string) (region string, ok bool)
	dial   services.DialFunc
	paths  atomic.Pointer[map[pair]Path]

	crossing crossing
	buffers  *sync.Pool // of datagramBuffers
	rules    atomic.Pointer[[]Rule]

	mu     sync.RWMutex
	placed map[string]string
}

// NewTable makes a table for a topology. locate says which region a host:port
// belongs to; it may be nil, must be safe for concurrent use, and is asked only
// for addresses that were not set with Place.
func NewTable(t topology.Topology, locate func(addr string) (region string, ok bool)) *Table {
	return NewTableOver((&net.Dialer{}).DialContext, t, locate)
}

// NewTableOver is NewTable for connections that dial makes, in the place of
// those of package net: the wire of a simulation, say.
func NewTableOver(dial services.DialFunc, t topology.Topology, locate func(addr string) (region string, ok bool)) *Table {
	table := &Table{locate: locate, dial: dial, placed: make(map[string]string), buffers: datagramBuffers()}
	table.crossing.conns = map[syscall.Conn]open{}
	table.Set(t)
	return table
}

// Set replaces the distances. Bytes already under way keep their delivery
// time; a connection handed out plain, because nothing lay between its ends
// then, stays plain.
func (t *Table) Set(topo topology.Topology) {
	paths := make(map[pair]Path, len(topo.Links))
	for _, l := range topo.Links {
		p := Path{RTT: l.RTT.D(), Rate: l.Bandwidth}
		if p.shaped() {
			paths[pairOf(l.Between[0], l.Between[1])] = p
		}
	}
	t.paths.Store(&paths)
}

// Place says that an address, as host:port, belongs to a region. It wins over
// the locator.
func (t *Table) Place(addr, region string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.placed[addr] = region
}

// Unplace forgets what Place said about an address.
func (t *Table) Unplace(addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.placed, addr)
}

// Region returns the region that an address belongs to.
func (t *Table) Region(addr string) (string, bool) {
	t.mu.RLock()
	region, ok := t.placed[addr]
	t.mu.RUnlock()
	if ok || t.locate == nil {
		return region, ok
	}
	return t.locate(addr)
}

// Path returns what lies between two regions: nothing within one region, and
// for a pair that no link joins.
func (t *Table) Path(from, to string) Path {
	if from == to {
		return Path{}
	}
	return (*t.paths.Load())[pairOf(from, to)]
}
