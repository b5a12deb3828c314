package resident

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// usualGrowth is the collector's without GOGC, in percent; mostGrowth bounds what a
// floor makes of it.
const usualGrowth, mostGrowth = 100, 1000

// Floor lets the heap grow to so many bytes before the collector begins, and beyond
// that to twice what is in use, as usual. A server that keeps little and makes some
// garbage for each request would otherwise be looked through several times a second.
// It is for who has not said otherwise (GOGC in the environment). The function that it
// returns ends it.
func Floor(least uint64) (end func()) {
	f := &floor{least: least, growth: usualGrowth}
	f.collected(new(cycle))
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.over = true
		debug.SetGCPercent(usualGrowth)
	}
}

type floor struct {
	least uint64

	mu     sync.Mutex
	growth int
	over   bool
}

// cycle is found unreachable by each collection. It is not empty: what is of size zero
// may never be.
type cycle struct{ _ [16]byte }

// collected sets the growth by what the latest collection left, and awaits the next.
func (f *floor) collected(c *cycle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(s)
	if g := growth(s[0].Value.Uint64(), s[1].Value.Uint64()+s[2].Value.Uint64(), f.least); g != f.growth {
		f.growth = g
		debug.SetGCPercent(g)
	}
	runtime.SetFinalizer(c, f.collected)
}

// growth in percent, in steps of ten, with which so many live bytes become least: the
// heap grows by its share of them and of the roots, stacks and globals ("Guide to the
// Go Garbage Collector", section GOGC).
func growth(live, roots, least uint64) int {
	if live == 0 {
		return usualGrowth // nothing was collected yet
	}
	g := int(min(mostGrowth, 100*(max(least, live)-live)/(live+roots)))
	return max(usualGrowth, g/10*10)
}
