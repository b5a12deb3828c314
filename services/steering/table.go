package steering

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// appliance is the part of an appliance that seldom changes; immutable but
// for its health.
type appliance struct {
	id, site, region, kind, url, plainURL, fillURL string
	isp                                            bool
	routes                                         map[netip.Prefix]route
	wide                                           []netip.Prefix // announced, and ignored: see topology.CatchAll
	slot                                           int
	lot                                            lot // its weight is the bandwidth, in bits per second
	health                                         *atomic.Pointer[health]
}

// health is an appliance's last report, for those who ask why; what decisions
// read of it is its state.
type health struct {
	ok     bool
	reason string
	heard  time.Time
}

func newHealth() *atomic.Pointer[health] {
	p := new(atomic.Pointer[health])
	p.Store(&health{reason: "never reported"})
	return p
}
