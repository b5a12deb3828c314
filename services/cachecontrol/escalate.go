package cachecontrol

import (
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// Escalation: an appliance fills from its own site, then from the exchange of
// its region (one hop), and waits for that as long as it gets on. When the
// exchange has made no progress for FillEscalation, though it has work, the ISP
// sites' masters look further: at exchanges of other regions that hold the file,
// the nearest first; and after as long again they ask the object stores
// themselves. The exchange's own masters never wait: they are who brings a file
// into the region.

// advance notes progress of a site.
func (s *site) advance(now time.Time) { s.progress, s.stalled = now, false }

// idle says whether the site has made no progress for so long that others look
// one hop further.
func (s *site) idle(t topology.Timing, now time.Time) bool {
	return t.FillEscalation > 0 && now.Sub(s.progress) >= t.FillEscalation.D()
}

// exhausted is idle for twice as long: others go to the object stores.
func (s *site) exhausted(t topology.Timing, now time.Time) bool {
	return t.FillEscalation > 0 && now.Sub(s.progress) >= 2*t.FillEscalation.D()
}

// abroad lists the exchanges' appliances of other regions that hold a file, the
// nearest region first.
func (p *planner) abroad(n *node, f int32, now time.Time) []source {
	var sources []source
	for _, region := range p.nearest(n.site.region) {
		if x := p.exchange(region); x != nil && region != n.site.region {
			sources = p.holders(sources, n, f, x, pb.Source_SOURCE_TIER, now)
		}
	}
	return sources
}

// giveUp wakes those who wait for an exchange that makes no progress, when they
// may look one hop further, and again when they may ask the object stores.
func (p *planner) giveUp(now time.Time) {
	for _, s := range p.sites {
		if s.kind != topology.SiteExchange || !s.idle(p.timing, now) {
			continue
		}
		if !s.stalled || s.exhausted(p.timing, now) && now.Sub(s.progress) < 3*p.timing.FillEscalation.D() {
			s.stalled = true
			p.wakeRegion(s)
		}
	}
}

// look opens and closes the sites' fill windows. Who waits for a site whose
// window has just opened waits from now on.
func (p *planner) look(now time.Time) {
	p.now = now
	for _, s := range p.sites {
		was := s.isOpen
		if s.isOpen = s.open(p.timing, now); s.isOpen && !was {
			s.advance(now)
		}
	}
}

// open says whether the site's fill window is open, by its local time.
func (s *site) open(t topology.Timing, now time.Time) bool {
	if s.clocked {
		now = now.UTC().Add(s.clock)
	}
	return windowOpen(t, now)
}
