package cachecontrol

import (
	"cmp"
	"slices"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// order tells one appliance to fetch one file, after making room.
type order struct {
	to      string
	file    plannedFile
	sources []source // best first
	evict   []heldFile
}

// source is a place to fetch a file from; whoever sends the order makes the
// URL of it.
type source struct {
	kind      pb.Source
	appliance string // "" for an object store
	region    string
	fillURL   string  // of the appliance
	ref       fileRef // the name under which the source holds the content
	weight    uint64  // orders sources that are equally busy
}

// plan returns the orders that can be given now, exchanges before those that
// wait for them, else in the order of their ids, and for each appliance in the
// order of fill.
func (p *planner) plan(now time.Time) []order {
	p.look(now)
	p.giving = nil
	p.refresh(now)
	var orders []order
	for _, n := range p.inOrder() {
		if !n.plans() {
			continue
		}
		orders = p.repeat(orders, n, now)
		if n.awake {
			limit := n.site.feed.urgent
			if n.urgent || n.site.isOpen {
				limit = len(n.site.feed.order)
			}
			orders = p.planNode(orders, n, int32(limit), now)
		}
		if n.urgent && len(n.flights) == 0 {
			n.urgent = n.lacks()
		}
	}
	return orders
}

// refresh brings the feeds and what each appliance is assigned up to date.
func (p *planner) refresh(now time.Time) {
	for region, f := range p.feeds {
		if !p.cat.stale && !f.stale {
			continue
		}
		f.rebuild(p.cat, p.timing.FillWindow.D(), p.urgentIn(region))
		for _, s := range p.near[region] {
			s.unplaced = true
		}
	}
	p.cat.stale = false
	var placed []*site
	for _, s := range p.sites {
		if s.unplaced {
			s.unplaced = false
			p.place(s)
			s.advance(now)
			placed = append(placed, s)
		}
	}
	for _, s := range placed {
		p.wakeRegion(s)
	}
}

// repeat gives again the orders of a stream that ended.
func (p *planner) repeat(orders []order, n *node, now time.Time) []order {
	var again []int32
	for f, fl := range n.flights {
		if fl.repeat {
			again = append(again, f)
		}
	}
	slices.Sort(again)
	for _, f := range again {
		sources := p.sources(n, f, now)
		if len(sources) == 0 && p.waitsForExchange(n, f, now) {
			delete(n.flights, f)
			p.wakeContent(p.cat.files[f].sum, n.site)
			continue
		}
		if len(sources) == 0 {
			sources = p.origins(n, f)
		}
		fl := n.flights[f]
		fl.repeat, fl.deadline, fl.from = false, now.Add(p.patience(n, fl.bytes)), sources[0]
		orders = append(orders, order{to: n.id, file: p.cat.files[f], sources: sources})
	}
	return orders
}

// planNode gives an appliance orders for files of a rank below limit. While there
// are files that its site never had, those that another of the site can give take
// no more than maxFromPeers places: a peer that got ahead is slow, since all fill
// from it, and who waits for it alone brings nothing to the site, so that the
// other has to give even more.
func (p *planner) planNode(orders []order, n *node, limit int32, now time.Time) []order {
	orders, passed := p.planFiles(orders, n, limit, maxFromPeers, now)
	if passed && len(n.flights) < maxInFlight {
		orders, _ = p.planFiles(orders, n, limit, maxInFlight, now)
	}
	return orders
}

// planFiles is planNode with at most so many files from peers. It says whether it
// passed over some for that.
func (p *planner) planFiles(orders []order, n *node, limit int32, fromPeers int, now time.Time) (_ []order, passed bool) {
	peers := 0
	for _, fl := range n.flights {
		if fl.from.kind == pb.Source_SOURCE_PEER {
			peers++
		}
	}
	r := n.ready.next(0)
	for ; r >= 0 && r < limit && len(n.flights) < maxInFlight; r = n.ready.next(r + 1) {
		f := n.site.feed.order[r]
		if peers >= fromPeers && n.site.ever.has(f) {
			passed = true
			continue
		}
		n.ready.clear(r)
		if n.held.has(f) || n.flights[f] != nil {
			continue
		}
		if s := n.setback[f]; s != nil && now.Before(s.retry) {
			continue
		}
		sources := p.decide(n, f, now)
		if len(sources) == 0 {
			continue
		}
		evict, fits := p.makeRoom(n, p.cat.files[f].file.GetSize())
		if !fits {
			continue
		}
		size := p.cat.files[f].file.GetSize()
		p.gives(sources[0])
		if sources[0].kind == pb.Source_SOURCE_PEER {
			peers++
		}
		n.flights[f] = &flight{deadline: now.Add(p.patience(n, size)), bytes: size, from: sources[0]}
		n.site.advance(now)
		orders = append(orders, order{to: n.id, file: p.cat.files[f], sources: sources, evict: evict})
	}
	n.awake = r >= 0 || passed
	return orders, passed
}

// lacks says whether an assigned file is missing.
func (n *node) lacks() (missing bool) {
	n.assigned.files.each(n.held, func(int32) { missing = true })
	return missing
}

// decide returns the sources of a file that the appliance lacks, or none if
// it has to wait. Once an appliance of a site holds a content, the others fill
// from it. Until then one master fetches it and the others wait; at an ISP's
// site the master, too, waits for the exchange.
func (p *planner) decide(n *node, f int32, now time.Time) []source {
	sum := p.cat.files[f].sum
	if p.flies(n, sum) {
		return nil // the same content under another name
	}
	sources := p.sources(n, f, now)
	if len(sources) > 0 && sources[0].kind == pb.Source_SOURCE_PEER {
		return sources
	}
	// Of twenty appliances nineteen are not the master: that is asked first.
	var buf [1]int32
	if p.masterOf(n.site, p.cat.alike(f, &buf), sum) != n || slices.ContainsFunc(n.site.nodes, func(m *node) bool { return p.flies(m, sum) }) {
		return nil
	}
	if len(sources) > 0 {
		return sources
	}
	if p.waitsForExchange(n, f, now) {
		return nil
	}
	return p.origins(n, f)
}

// sources lists the appliances to fill from: those of the site that hold the
// content, then, for an ISP's site, those of the exchange; of each the least
// busy first. Each appliance and file has an order of its own of those that are
// equally busy, which spreads the load over the holders.
func (p *planner) sources(n *node, f int32, now time.Time) []source {
	sources := p.holders(nil, n, f, n.site, pb.Source_SOURCE_PEER, now)
	if n.site.kind == topology.SiteISP {
		x := p.exchange(n.site.region)
		if x != nil {
			sources = p.holders(sources, n, f, x, pb.Source_SOURCE_TIER, now)
		}
		if len(sources) == 0 && x != nil && x.idle(p.timing, now) {
			sources = p.abroad(n, f, now)
		}
	}
	return sources
}

func (p *planner) holders(sources []source, n *node, f int32, s *site, kind pb.Source, now time.Time) []source {
	var buf [1]int32
	alike := p.cat.alike(f, &buf)
	if !slices.ContainsFunc(alike, s.ever.has) {
		return sources
	}
	first := len(sources)
	sum := p.cat.files[f].sum
	for _, m := range s.nodes {
		if m == n || !m.serves() {
			continue
		}
		for _, g := range alike {
			if m.held.has(g) && m.keeps(p.cat.files[g].ref) && !n.refuses(f, m.id, now) {
				sources = append(sources, source{
					kind: kind, appliance: m.id, region: s.region, fillURL: m.fillURL, ref: p.cat.files[g].ref, weight: score(sum, m.hash^n.hash),
				})
				break
			}
		}
	}
	if len(sources)-first > 1 {
		slices.SortFunc(sources[first:], func(a, b source) int {
			return cmp.Or(cmp.Compare(p.busy(a), p.busy(b)), cmp.Compare(b.weight, a.weight))
		})
	}
	return sources
}

// busy is how much an appliance gives already, by its line: the files under way
// for which it was named first, over its fill bandwidth.
func (p *planner) busy(s source) float64 {
	if p.giving == nil {
		p.giving = map[string]int{}
		for _, n := range p.nodes {
			for _, fl := range n.flights {
				p.giving[fl.from.appliance]++
			}
		}
	}
	m := p.nodes[s.appliance]
	return float64(p.giving[s.appliance]+1) / float64(max(1, m.fill))
}

// gives counts an order that is being given.
func (p *planner) gives(s source) {
	if p.giving != nil {
		p.giving[s.appliance]++
	}
}

// keeps says whether the appliance was not told to drop the file.
func (n *node) keeps(ref fileRef) bool {
	_, going := n.evicting[ref]
	return !going
}

// origins lists the object stores that have the file, the nearest first.
func (p *planner) origins(n *node, f int32) []source {
	file := p.cat.files[f]
	var sources []source
	add := func(region string) {
		sources = append(sources, source{kind: pb.Source_SOURCE_CACHE, region: region, ref: file.ref})
	}
	near := p.nearest(n.site.region)
	for _, region := range near {
		if slices.Contains(file.asset.GetOrigins(), region) {
			add(region)
		}
	}
	for _, region := range file.asset.GetOrigins() {
		if !slices.Contains(near, region) {
			add(region)
		}
	}
	return sources
}

func (p *planner) exchange(region string) *site {
	for _, s := range p.near[region] {
		if s.kind == topology.SiteExchange {
			return s
		}
	}
	return nil
}

// waitsForExchange says whether the appliance stands at an ISP's site and one
// at the region's exchange can be counted on to get the content.
func (p *planner) waitsForExchange(n *node, f int32, now time.Time) bool {
	if n.site.kind != topology.SiteISP {
		return false
	}
	x := p.exchange(n.site.region)
	if x == nil || x.exhausted(p.timing, now) {
		return false
	}
	var buf [1]int32
	alike := p.cat.alike(f, &buf)
	return slices.ContainsFunc(x.nodes, func(m *node) bool {
		return (m.hopeful() || m.paused && m.presence != absent) && slices.ContainsFunc(alike, m.assigned.files.has)
	})
}

// master is the appliance of a site that fetches a content for all: of those
// that are counted on and assigned it, the one that failed least often (two by
// two), then the first in rendezvous order. Nil if there is none.
func (p *planner) master(s *site, sum checksum) *node { return p.masterOf(s, p.cat.bySum[sum], sum) }

// masterOf is master for who knows the files that have the content.
func (p *planner) masterOf(s *site, alike []int32, sum checksum) *node {
	var best *node
	var bestFailures int
	var bestScore uint64
	for _, n := range s.nodes {
		if !n.hopeful() {
			continue
		}
		failures, assigned := 0, false
		for _, f := range alike {
			assigned = assigned || n.assigned.files.has(f)
			if len(n.setback) == 0 {
				continue
			}
			if b := n.setback[f]; b != nil {
				failures = max(failures, b.failures/2)
			}
		}
		if !assigned {
			continue
		}
		sc := score(sum, n.hash)
		if best == nil || failures < bestFailures || failures == bestFailures && sc > bestScore {
			best, bestFailures, bestScore = n, failures, sc
		}
	}
	return best
}

// flies says whether the appliance is fetching the content.
func (p *planner) flies(n *node, sum checksum) bool {
	for f := range n.flights {
		if p.cat.files[f].sum == sum {
			return true
		}
	}
	return false
}

// makeRoom chooses stored files that nothing assigns to the appliance to go
// when size more bytes would not fit: files of no published version first,
// then the least popular. It says whether there is room then.
func (p *planner) makeRoom(n *node, size uint64) ([]heldFile, bool) {
	need := n.used - min(n.used, n.evictingBytes) + n.inFlightBytes() + size
	if need <= n.capacity {
		return nil, true
	}
	var evict []heldFile
	for _, h := range p.unassigned(n) {
		if need <= n.capacity {
			break
		}
		need -= min(need, h.size)
		evict = append(evict, h)
	}
	if need > n.capacity {
		return nil, false
	}
	for _, h := range evict {
		n.evicting[h.ref] = h.size
		n.evictingBytes += h.size
	}
	return evict, true
}

// unassigned lists what may go from an appliance, the least valuable first.
func (p *planner) unassigned(n *node) []heldFile {
	var out, demoted []heldFile
	for ref, size := range n.extra {
		out = append(out, heldFile{ref: ref, size: size})
	}
	slices.SortFunc(out, func(a, b heldFile) int { return compareRefs(a.ref, b.ref) })
	n.held.each(n.assigned.files, func(f int32) {
		demoted = append(demoted, heldFile{ref: p.cat.files[f].ref, size: p.cat.files[f].file.GetSize()})
	})
	slices.SortFunc(demoted, func(a, b heldFile) int {
		return cmp.Compare(n.site.feed.rank[p.cat.byRef[b.ref]], n.site.feed.rank[p.cat.byRef[a.ref]])
	})
	out = append(out, demoted...)
	return slices.DeleteFunc(out, func(h heldFile) bool { return !n.keeps(h.ref) })
}
