package cachecontrol

import "github.com/flix-lab/flix/topology"

// wakeNode makes the planner look at all that one appliance lacks.
func (p *planner) wakeNode(n *node) {
	if p.cat.stale || n.site.unplaced {
		return // plan does it when it knows what is assigned
	}
	clear(n.ready)
	if !n.connected {
		return
	}
	n.awake = true
	n.assigned.files.each(n.held, func(f int32) { n.ready.set(n.site.feed.rank[f]) })
}

// wakeRegion looks again at all that the site and those that depend on it lack.
func (p *planner) wakeRegion(s *site) {
	for _, t := range p.dependants(s) {
		for _, n := range t.nodes {
			p.wakeNode(n)
		}
	}
}

// wakeContent looks again at one content where the site's state matters.
func (p *planner) wakeContent(sum checksum, s *site) {
	if p.cat.stale {
		return
	}
	numbers := p.cat.bySum[sum]
	for _, t := range p.dependants(s) {
		if t.unplaced {
			continue
		}
		for _, n := range t.nodes {
			if !n.connected {
				continue
			}
			for _, f := range numbers {
				if n.assigned.files.has(f) && !n.held.has(f) {
					n.awake = true
					n.ready.set(t.feed.rank[f])
				}
			}
		}
	}
}

// dependants lists the site and, for an exchange, the ISP sites of its region.
func (p *planner) dependants(s *site) []*site {
	out := []*site{s}
	if s.kind != topology.SiteExchange {
		return out
	}
	for _, t := range p.near[s.region] {
		if t.kind == topology.SiteISP {
			out = append(out, t)
		}
	}
	return out
}
