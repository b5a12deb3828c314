package cachecontrol

import (
	"cmp"
	"slices"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// maxInFlight is how many files an appliance fetches at once.
const maxInFlight = 4

// maxFromPeers is how many of them come from its own site while others are to be
// brought there.
const maxFromPeers = maxInFlight - 1

// planner decides which appliance fetches which file from where. It is a
// state machine without clock, sockets or goroutines: events go in through its
// methods, orders come out of plan, and the same events in the same order give
// the same orders. It is not safe for concurrent use.
//
// Every event marks the files whose answer it may change as ready at the
// appliances that lack them (wake); plan looks at nothing else. So the cost of
// an event grows with the appliances of a region, not with titles × appliances.
type planner struct {
	timing  topology.Timing
	nearest func(region string) []string

	cat   *catalogue
	nodes map[string]*node
	sites map[string]*site
	near  map[string][]*site // by region
	feeds map[string]*feed   // by region
	rules rules
	now   time.Time // of the latest plan
	// giving counts the files each appliance gives; nil until a plan asks.
	giving map[string]int
	sorted []*node // by id; nil when it has to be built again
}

func newPlanner(timing topology.Timing, nearest func(region string) []string) *planner {
	return &planner{timing: timing, nearest: nearest, cat: newCatalogue(), nodes: map[string]*node{}, sites: map[string]*site{}, near: map[string][]*site{}, feeds: map[string]*feed{}, rules: rules{}}
}

// declare tells which appliances the topology declares. Those not heard of yet
// are expected until grace from now.
func (p *planner) declare(t topology.Topology, now time.Time) {
	seen := map[string]bool{}
	for _, r := range t.Regions {
		p.declareSite(r.Name, r.Exchange.Name, topology.SiteExchange, r.Exchange.Appliances, now, seen)
		for _, isp := range r.ISPs {
			p.declareSite(r.Name, isp.Name, topology.SiteISP, isp.Appliances, now, seen)
		}
		clock, clocked := r.UTCOffset.Get()
		for _, s := range p.near[r.Name] {
			s.clock, s.clocked = clock, clocked
		}
	}
	for id, n := range p.nodes {
		if n.declared && !seen[id] {
			n.declared = false
			if n.presence != present {
				p.drop(n)
			}
		}
	}
}

func (p *planner) declareSite(region, name string, kind topology.SiteKind, appliances []topology.Appliance, now time.Time, seen map[string]bool) {
	for i, a := range appliances {
		id := topology.InstanceID(region, name, topology.RoleOCA, i+1)
		seen[id] = true
		n := p.nodes[id]
		if n == nil {
			n = p.addNode(id, region, name, kind)
			n.presence, n.grace, n.capacity = expected, now.Add(p.timing.ReportExpiry.D()), uint64(a.Capacity)
			n.bandwidth, n.fill = uint64(a.Bandwidth), uint64(cmp.Or(a.FillBandwidth, a.Bandwidth))
			n.site.progress = now
		}
		n.declared = true
	}
}

func (p *planner) addNode(id, region, name string, kind topology.SiteKind) *node {
	s := p.sites[name]
	if s == nil {
		s = &site{name: name, region: region, kind: kind, feed: p.feeds[region], unplaced: true}
		if s.feed == nil {
			s.feed = newFeed(region)
			p.feeds[region] = s.feed
			p.cat.stale = true
		}
		p.sites[name] = s
		p.near[region] = append(p.near[region], s)
	}
	n := &node{id: id, hash: hashID(id), assigned: &assignment{}, extra: map[fileRef]uint64{}, evicting: map[fileRef]uint64{}, flights: map[int32]*flight{}}
	p.nodes[id] = n
	p.sorted = nil
	s.add(n)
	s.unplaced = true
	n.paused = p.rules.find(rulePause, n, "") != nil
	return n
}

// setAsset makes a title known, or a new version or popularity of it.
func (p *planner) setAsset(a *pb.Asset) {
	added, withdrawn := p.cat.put(a)
	for _, n := range p.nodes {
		for _, f := range withdrawn {
			p.forget(n, f)
		}
		for _, f := range added {
			file := p.cat.files[f]
			if _, ok := n.extra[file.ref]; ok {
				delete(n.extra, file.ref)
				n.held.set(f)
				n.site.ever.set(f)
			}
		}
	}
	p.cat.release(withdrawn)
}

// forget moves a file that no asset names any more to the appliance's extras.
func (p *planner) forget(n *node, f int32) {
	if n.held.has(f) {
		n.held.clear(f)
		n.extra[p.cat.files[f].ref] = p.cat.files[f].file.GetSize()
	}
	delete(n.flights, f)
	delete(n.setback, f)
}

// setNode makes an appliance known with everything it holds. An order it was
// given on a stream before this one is given again if it is still wanted.
func (p *planner) setNode(i nodeInfo, held []heldFile) {
	n := p.nodes[i.id]
	if n != nil && n.site.name != i.site {
		p.drop(n)
		n = nil
	}
	if n == nil {
		n = p.addNode(i.id, i.region, i.site, i.kind)
	}
	changed := n.presence != present || n.well() != (i.ill == "") || n.full != i.full || n.connected != i.connected || n.fillURL != i.fillURL
	if n.presence == absent || n.bandwidth != i.bandwidth || n.capacity != i.capacity {
		n.site.unplaced = true
	}
	n.presence, n.ill, n.full, n.connected = present, i.ill, i.full, i.connected
	n.bandwidth, n.fill, n.fillURL = i.bandwidth, i.fill, i.fillURL
	lost := p.replaceHoldings(n, held)
	if !i.connected && len(n.flights) > 0 {
		clear(n.flights) // whoever it is connected to plans for it now
		changed = true
	}
	for _, f := range n.flights {
		f.repeat = true
	}
	if n.capacity != i.capacity {
		n.capacity = i.capacity
		changed = true
	}
	p.wakeNode(n)
	if changed || lost {
		n.site.advance(p.now)
		p.wakeRegion(n.site)
	}
}

// replaceHoldings sets what the appliance holds and wakes those who can now
// fill from it. It says whether something it held is gone.
func (p *planner) replaceHoldings(n *node, held []heldFile) (lost bool) {
	before := n.held
	n.held, n.used, n.evictingBytes = nil, 0, 0
	clear(n.extra)
	clear(n.evicting)
	for _, h := range held {
		f, ok := p.cat.byRef[h.ref]
		if !ok {
			n.extra[h.ref] = h.size
			n.used += h.size
			continue
		}
		n.held.set(f)
		n.site.ever.set(f)
		n.used += p.cat.files[f].file.GetSize()
		delete(n.flights, f)
		delete(n.setback, f)
	}
	n.held.each(before, func(f int32) { p.wakeContent(p.cat.files[f].sum, n.site) })
	before.each(n.held, func(int32) { lost = true })
	return lost
}

// setHealth notes a report of the appliance: why it is ill, "" if it is not;
// progress says that its fills got bytes since the report before, which extends
// their deadlines.
func (p *planner) setHealth(id, ill string, progress bool, now time.Time) {
	n := p.nodes[id]
	if n == nil {
		return
	}
	if progress {
		n.site.advance(now)
		for _, f := range n.flights {
			f.deadline = now.Add(p.patience(n, f.bytes))
		}
	}
	was := n.well()
	if n.ill = ill; n.well() != was {
		p.wakeRegion(n.site)
	}
}

// setFull notes whether the appliance's disk takes no byte more.
func (p *planner) setFull(id string, full bool) {
	if n := p.nodes[id]; n != nil && n.full != full {
		n.full = full
		p.wakeRegion(n.site)
	}
}

// disconnect says that the appliance's stream ended. Its orders stand until it
// is gone, so that a short break does not send a second master to the origin.
func (p *planner) disconnect(id string) {
	if n := p.nodes[id]; n != nil {
		n.connected = false
	}
}

// setHeld says that the appliance stored files.
func (p *planner) setHeld(id string, files []heldFile) {
	n := p.nodes[id]
	if n == nil {
		return
	}
	for _, h := range files {
		f, ok := p.cat.byRef[h.ref]
		if !ok {
			if _, known := n.extra[h.ref]; !known {
				n.extra[h.ref] = h.size
				n.used += h.size
			}
			continue
		}
		delete(n.flights, f)
		delete(n.setback, f)
		if !n.held.has(f) {
			n.held.set(f)
			n.site.ever.set(f)
			n.used += p.cat.files[f].file.GetSize()
			n.site.advance(p.now)
			p.trust(n, f)
		}
		p.wakeContent(p.cat.files[f].sum, n.site)
	}
}

// trust lets others fill from a copy that is new, whatever the one before was.
func (p *planner) trust(n *node, f int32) {
	for _, g := range p.cat.bySum[p.cat.files[f].sum] {
		for _, t := range p.dependants(n.site) {
			for _, m := range t.nodes {
				if b := m.setback[g]; b != nil {
					delete(b.refused, n.id)
				}
			}
		}
	}
}

// setLost says that files are no longer stored.
func (p *planner) setLost(id string, refs []fileRef) {
	n := p.nodes[id]
	if n == nil {
		return
	}
	for _, ref := range refs {
		size, extra := n.extra[ref]
		f, known := p.cat.byRef[ref]
		if known && n.held.has(f) {
			size = p.cat.files[f].file.GetSize()
			n.held.clear(f)
			p.wakeContent(p.cat.files[f].sum, n.site)
		} else if !extra {
			continue
		}
		delete(n.extra, ref)
		n.used -= min(size, n.used)
		n.evictingBytes -= n.evicting[ref]
		delete(n.evicting, ref)
	}
	n.site.advance(p.now)
	p.wakeNode(n) // there may be room now
}

// setFailed says that the appliance gave up an order. Twice, and the next in
// line fetches the file; each time it waits longer before it tries again.
func (p *planner) setFailed(id string, ref fileRef, now time.Time) {
	n := p.nodes[id]
	f, ok := p.cat.byRef[ref]
	if n == nil || !ok {
		return
	}
	delete(n.flights, f)
	s := n.setbackOf(f)
	s.failures++
	wait := p.timing.CacheControlSync.D() << min(s.failures-1, 8)
	s.retry = now.Add(min(wait, p.timing.ReportExpiry.D()))
	p.wakeContent(p.cat.files[f].sum, n.site)
}

// setRefused says that a source of the appliance's order gave bad bytes, so
// that others are preferred until it has looked at its copy.
func (p *planner) setRefused(id string, ref fileRef, source string, now time.Time) {
	n := p.nodes[id]
	f, ok := p.cat.byRef[ref]
	if n == nil || !ok {
		return
	}
	s := n.setbackOf(f)
	if s.refused == nil {
		s.refused = map[string]time.Time{}
	}
	s.refused[source] = now.Add(p.timing.ReportExpiry.D())
}

// setGone says that nothing was heard of the appliance for too long.
func (p *planner) setGone(id string) {
	n := p.nodes[id]
	if n == nil {
		return
	}
	s := n.site
	p.drop(n)
	if n.declared {
		d := p.addNode(id, s.region, s.name, s.kind)
		d.declared, d.presence, d.capacity, d.bandwidth, d.fill = true, absent, n.capacity, n.bandwidth, n.fill
	}
	p.wakeRegion(s)
}

func (p *planner) drop(n *node) {
	delete(p.nodes, n.id)
	p.sorted = nil
	n.site.remove(n)
	n.site.unplaced = true
	if len(n.site.nodes) == 0 {
		delete(p.sites, n.site.name)
		p.near[n.site.region] = slices.DeleteFunc(p.near[n.site.region], func(s *site) bool { return s == n.site })
	}
	p.wakeRegion(n.site)
}

// urge lifts the fill window for the connected appliances until nothing is
// missing there.
func (p *planner) urge() {
	for _, n := range p.nodes {
		if n.connected {
			n.urgent = true
			n.site.advance(p.now)
		}
	}
}

// tick lets time pass: grace, back-off and deadlines end.
func (p *planner) tick(now time.Time) {
	p.now = now
	p.giveUp(now)
	for _, n := range p.inOrder() {
		if n.presence == expected && !now.Before(n.grace) {
			n.presence = absent
			n.site.unplaced = true
			p.wakeRegion(n.site)
		}
		for f, s := range n.setback {
			for source, until := range s.refused {
				if !now.Before(until) {
					delete(s.refused, source)
				}
			}
			if !now.Before(s.retry) {
				p.wakeContent(p.cat.files[f].sum, n.site)
			}
		}
		for f, fl := range n.flights {
			switch {
			case now.Before(fl.deadline):
			case !fl.late && n.connected:
				fl.late, fl.repeat = true, true
			default:
				p.setFailed(n.id, p.cat.files[f].ref, now)
			}
		}
	}
}

// patience is how long an order of so many bytes may take without a sign of
// progress: two missed reports, and four times what the line needs.
func (p *planner) patience(n *node, bytes uint64) time.Duration {
	d := 2 * p.timing.ReportExpiry.D()
	if n.bandwidth > 0 {
		d += time.Duration(4 * float64(bytes) * 8 / float64(n.bandwidth) * float64(time.Second))
	}
	return d
}

func (p *planner) inOrder() []*node {
	if p.sorted == nil {
		for _, n := range p.nodes {
			p.sorted = append(p.sorted, n)
		}
		slices.SortFunc(p.sorted, func(a, b *node) int {
			return cmp.Or(compareBools(a.site.kind == topology.SiteISP, b.site.kind == topology.SiteISP), cmp.Compare(a.id, b.id))
		})
	}
	return p.sorted
}
