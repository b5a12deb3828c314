package cachecontrol

import (
	"fmt"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// States of a file on an appliance.
const (
	stateHeld        = "held"
	stateInFlight    = "in_flight"    // it was ordered
	stateReady       = "ready"        // it has a source and waits for its turn
	stateWaiting     = "waiting"      // somebody else has to get it first, or a failure to be over
	stateBlocked     = "blocked"      // something has to change first
	stateNotAssigned = "not_assigned" // it has no place here
)

// outlook is what becomes of a file on an appliance.
type outlook struct {
	state string
	kind  pb.Source
	from  string // source, or whom it waits for
	why   string
}

// name of a source: the appliance, or "origin/REGION".
func (s source) name() string {
	if s.appliance != "" {
		return s.appliance
	}
	return "origin/" + s.region
}

// WindowClosed is what begins the words of an appliance whose site's fill window is
// closed: a run that is to begin now goes on all the same.
const WindowClosed = "the fill window is closed"

// DiskFull is what begins the words of an appliance whose disk takes no more.
const DiskFull = "its disk is full"

// blocked says why an appliance is given no orders as things are; "" if nothing
// is in the way. urgent: the window does not matter.
func (p *planner) blocked(n *node, urgent bool, now time.Time) string {
	switch {
	case n.presence == expected:
		return "it has not reported yet"
	case n.presence == absent:
		return "it is out: nothing was heard of it in time"
	case n.paused:
		r := p.rules.find(rulePause, n, "")
		return fmt.Sprintf("fills of %s are paused", scopeName(r.GetScope()))
	case !n.well():
		return "it is not healthy: " + n.ill
	case n.full:
		return DiskFull + ": it serves what it holds"
	case !urgent && !n.urgent && !n.site.open(p.timing, now):
		return WindowClosed + ", " + n.site.localTime(now) + " there"
	}
	return ""
}

// localTime of a site, for people.
func (s *site) localTime(now time.Time) string {
	if s.clocked {
		now = now.UTC().Add(s.clock)
	}
	return now.Format("15:04")
}

// outlook looks at one file that is assigned to an appliance. It changes
// nothing.
func (p *planner) outlook(n *node, f int32, now time.Time) outlook {
	if n.held.has(f) {
		return outlook{state: stateHeld}
	}
	if fl := n.flights[f]; fl != nil {
		return outlook{state: stateInFlight, kind: fl.from.kind, from: fl.from.name()}
	}
	file := p.cat.files[f]
	var o outlook
	if sources := p.decide(n, f, now); len(sources) > 0 {
		o = outlook{state: stateReady, kind: sources[0].kind, from: sources[0].name()}
	} else {
		o = p.awaited(n, f, now)
	}
	if why := p.blocked(n, p.rules.find(ruleUrgent, n, file.ref.title) != nil, now); why != "" {
		o.state, o.why = stateBlocked, why
		return o
	}
	if b := n.setback[f]; b != nil && now.Before(b.retry) {
		o.state, o.why = stateWaiting, fmt.Sprintf("it failed %d times; next try in %v", b.failures, b.retry.Sub(now).Round(time.Millisecond))
		return o
	}
	if o.state == stateReady && !p.roomFor(n, file.file.GetSize()) {
		o.state, o.why = stateBlocked, "there is no room: what is stored or under way is wanted, too"
	}
	return o
}

// fileOutlook is the outlook of a file as it is told.
func (p *planner) fileOutlook(n *node, f int32, now time.Time) *pb.FileOutlook {
	o, file := p.outlook(n, f, now), p.cat.files[f]
	return &pb.FileOutlook{Path: file.ref.path, Size: file.file.GetSize(), State: o.state, Source: o.kind, From: o.from, Why: o.why}
}

// awaited says for whom an appliance waits that has no source.
func (p *planner) awaited(n *node, f int32, now time.Time) outlook {
	sum := p.cat.files[f].sum
	o := outlook{state: stateWaiting}
	if p.flies(n, sum) {
		o.from, o.why = n.id, "it fetches the same content under another name"
		return o
	}
	for _, m := range n.site.nodes {
		if p.flies(m, sum) {
			o.kind, o.from, o.why = pb.Source_SOURCE_PEER, m.id, "its neighbour fetches it"
			return o
		}
	}
	if m := p.master(n.site, sum); m != nil && m != n {
		o.kind, o.from, o.why = pb.Source_SOURCE_PEER, m.id, "its neighbour is the master that fetches it"
		return o
	}
	if p.waitsForExchange(n, f, now) {
		x := p.exchange(n.site.region)
		o.kind, o.from, o.why = pb.Source_SOURCE_TIER, x.name, "the exchange gets it first"
		if m := p.master(x, sum); m != nil {
			o.from = m.id
		}
		return o
	}
	o.kind, o.from = pb.Source_SOURCE_CACHE, p.origins(n, f)[0].name()
	return o
}

// roomFor says whether a file fits when what nothing assigns here has gone.
func (p *planner) roomFor(n *node, size uint64) bool {
	return n.used-min(n.used, n.removable(p))+n.inFlightBytes()+size <= n.capacity
}

// removable is the bytes stored that nothing assigns to the appliance.
func (n *node) removable(p *planner) (total uint64) {
	for _, size := range n.extra {
		total += size
	}
	n.held.each(n.assigned.files, func(f int32) { total += p.cat.files[f].file.GetSize() })
	return total
}

// missing counts what an appliance is assigned and lacks.
func (n *node) missing(p *planner) (files int, bytes uint64) {
	n.assigned.files.each(n.held, func(f int32) {
		files++
		bytes += p.cat.files[f].file.GetSize()
	})
	return files, bytes
}
