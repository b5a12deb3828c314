package cachecontrol

import (
	"cmp"
	"math"
	"slices"
)

// assignment is what an appliance has to hold.
type assignment struct {
	files bitset
	count int
	bytes uint64
}

func (a *assignment) give(f *feed, t *rankedTitle) {
	for _, n := range f.order[t.first:t.last] {
		a.files.set(n)
	}
	a.count += t.last - t.first
	a.bytes += t.bytes
}

// placement is how a site's titles lie on its appliances.
//
// Heterogeneous cluster allocation, after what the Open Connect operator
// published of it (US patent 11223675): the most popular titles, the popular
// segment, are spread over the appliances in proportion to their bandwidth,
// all others in proportion to the storage that is left. The patent does not
// give the cut-off between them; here it is the one with which the busiest
// appliance carries least, measured by its share of the bandwidth.
//
// Each title goes to the first of its appliances by weighted rendezvous
// hashing, so that an appliance that is added or lost moves little more than
// its share. A title that draws more than one appliance's share of all demand
// gets as many copies as it needs; what room remains then goes to second copies,
// of the most popular titles first.
type placement struct {
	members []*node
	// popular is how many titles are above the cut-off, cutOff the popularity of
	// the last of them, popularBytes the size of one copy of each.
	popular      int
	cutOff       float64
	popularBytes uint64
	// placed and unplaced count titles; stored the bytes of all copies.
	placed, unplaced int
	stored, capacity uint64
	// imbalance is the load of the busiest appliance ÷ its share by bandwidth,
	// of the split that the cut-off makes.
	imbalance float64
}

// share is one appliance's part in a placement.
type share struct {
	node *node
	// bandwidth and storage are its parts of the site's, for the popular titles
	// and for the others.
	bandwidth, storage float64
	free               uint64
	assigned           *assignment
}

// place decides what each appliance of a site has to hold.
func (p *planner) place(s *site) {
	f := s.feed
	pl := &placement{}
	for _, n := range s.nodes {
		if n.presence == absent {
			continue
		}
		pl.members = append(pl.members, n)
		pl.capacity += n.capacity
	}
	s.placement = pl
	if len(pl.members) == 0 {
		return
	}
	smallest := slices.MinFunc(pl.members, func(a, b *node) int { return cmp.Compare(a.capacity, b.capacity) })
	if f.bytes <= smallest.capacity {
		pl.everywhere(f)
		return
	}
	shares := pl.split(f)
	pinned := p.pins(s, shares)
	pl.spread(f, shares, pinned)
	for i := range shares {
		sh := &shares[i]
		if old := sh.node.assigned; old.count == sh.assigned.count && old.bytes == sh.assigned.bytes && slices.Equal(old.files, sh.assigned.files) {
			continue
		}
		sh.node.assigned = sh.assigned
	}
}

// everywhere assigns every title to every appliance: there is room.
func (pl *placement) everywhere(f *feed) {
	pl.popular, pl.placed, pl.popularBytes, pl.imbalance = len(f.titles), len(f.titles), f.bytes, 1
	pl.stored = f.bytes * uint64(len(pl.members))
	if k := len(f.titles); k > 0 {
		pl.cutOff = f.titles[k-1].popularity
	}
	for _, n := range pl.members {
		n.assigned = f.whole
	}
}

// split finds the cut-off and each appliance's part of both segments.
func (pl *placement) split(f *feed) []share {
	shares := make([]share, len(pl.members))
	var bandwidth float64
	for _, n := range pl.members {
		bandwidth += lineOf(n)
	}
	for i, n := range pl.members {
		shares[i] = share{node: n, bandwidth: lineOf(n) / bandwidth, free: n.capacity, assigned: &assignment{}}
	}
	pl.cut(f, shares)
	left := float64(pl.capacity) - float64(pl.popularBytes)
	for i := range shares {
		sh := &shares[i]
		sh.storage = max(0, float64(sh.node.capacity)-float64(pl.popularBytes)*sh.bandwidth) / max(1, left)
	}
	return shares
}

// lineOf is the bandwidth of an appliance; one that did not say has the least.
func lineOf(n *node) float64 { return max(1, float64(n.bandwidth)) }

// even is by how much a larger popular segment has to balance better to be
// worth it: popular titles lie on few disks.
const even = 0.001

// cut sets the cut-off. The first k titles are the popular ones: an appliance
// with the share b of the bandwidth stores b of them, which must fit, and
// carries b of their demand; of the demand for the others it carries its part
// of the storage that is left.
func (pl *placement) cut(f *feed, shares []share) {
	var demand float64 // of what one copy of each fits into the site
	var bytes uint64
	fit := 0
	for fit < len(f.titles) && bytes+f.titles[fit].bytes <= pl.capacity {
		bytes += f.titles[fit].bytes
		demand += f.titles[fit].demand()
		fit++
	}
	best, head, size := math.Inf(1), 0.0, uint64(0)
	for k := 0; k <= fit; k++ {
		worst, ok := busiest(shares, float64(size), float64(pl.capacity), head, demand)
		if !ok {
			break
		}
		if worst < best-even {
			best = worst
			pl.popular, pl.popularBytes, pl.imbalance = k, size, worst
		}
		if k < fit {
			head += f.titles[k].demand()
			size += f.titles[k].bytes
		}
	}
	if pl.popular > 0 {
		pl.cutOff = f.titles[pl.popular-1].popularity
	}
}

// busiest is the load of the busiest appliance by its share of the bandwidth,
// when titles of so many bytes that draw head of the demand are spread by
// bandwidth; false if they do not fit so.
func busiest(shares []share, size, capacity, head, demand float64) (worst float64, ok bool) {
	left := capacity - size
	for i := range shares {
		sh := &shares[i]
		rest := float64(sh.node.capacity) - size*sh.bandwidth
		if rest < 0 {
			return 0, false
		}
		load := head * sh.bandwidth
		if left > 0 {
			load += (demand - head) * rest / left
		}
		if demand > 0 {
			worst = max(worst, load/(demand*sh.bandwidth))
		}
	}
	return max(worst, 1), true
}

// spread gives the titles to the appliances, the most popular first: to each as
// many copies as its demand needs, and where those have left room a second one,
// so that the loss of an appliance is borne at the site.
func (pl *placement) spread(f *feed, shares []share, pinned map[string][]int) {
	sp := &spreading{pl: pl, f: f, shares: shares, where: make([]bitset, len(f.titles)), order: make([]float64, len(shares)), best: make([][2]int32, len(f.titles))}
	for i := range f.titles {
		sp.demand += f.titles[i].demand()
		for _, at := range pinned[f.titles[i].asset.GetTitleId()] {
			sp.take(i, at)
		}
	}
	for i := range f.titles {
		if sp.copies(i, sp.needed(i)) > 0 {
			pl.placed++
		} else {
			pl.unplaced++
		}
	}
	for i := range f.titles {
		sp.second(i)
	}
}

// spreading is a placement being made.
type spreading struct {
	pl     *placement
	f      *feed
	shares []share
	demand float64
	where  []bitset // of a title, the shares that have it
	order  []float64
	// best are the two places that a title prefers.
	best [][2]int32
}

// needed is how many copies a title needs, so that none draws more than an
// appliance's share of all demand.
func (sp *spreading) needed(i int) int {
	if sp.demand == 0 {
		return 1
	}
	return min(len(sp.shares), max(1, int(math.Ceil(float64(len(sp.shares))*sp.f.titles[i].demand()/sp.demand))))
}

// copies brings a title to so many copies, where it prefers to be and there is
// room; it returns how many it has.
func (sp *spreading) copies(i, want int) (have int) {
	sp.best[i] = prefer(sp.order, sp.shares, sp.f.titles[i].hash, i < sp.pl.popular)
	have = sp.where[i].len()
	for _, at := range sp.best[i] { // where most find room
		if have < want && at >= 0 && sp.take(i, int(at)) {
			have++
		}
	}
	if have >= want {
		return have
	}
	for at := range sp.shares {
		if !sp.fits(i, at) {
			sp.order[at] = math.Inf(1)
		}
	}
	for have < want {
		at := nearest(sp.order)
		if at < 0 {
			break
		}
		sp.take(i, at)
		sp.order[at] = math.Inf(1)
		have++
	}
	return have
}

// second gives a title of one copy another one, at the first place that it
// prefers beside, and nowhere else: those places are spread by the weights, so
// that no appliance gets more of them than it can carry, and they hardly move
// when appliances come and go.
func (sp *spreading) second(i int) {
	if sp.where[i].len() != 1 {
		return
	}
	at := sp.best[i][0]
	if sp.where[i].has(at) {
		at = sp.best[i][1]
	}
	if at >= 0 {
		sp.take(i, int(at))
	}
}

// fits says whether a share has room for a copy, and has none.
func (sp *spreading) fits(i, at int) bool {
	return sp.f.titles[i].bytes <= sp.shares[at].free && !sp.where[i].has(int32(at))
}

// take gives a copy to a share if there is room.
func (sp *spreading) take(i, at int) bool {
	if !sp.fits(i, at) {
		return false
	}
	t, sh := &sp.f.titles[i], &sp.shares[at]
	sp.where[i].set(int32(at))
	sh.free -= t.bytes
	sh.assigned.give(sp.f, t)
	sp.pl.stored += t.bytes
	return true
}

// prefer says how far each appliance is from a title: weighted rendezvous
// hashing, by -ln(h)/w, the least first, with h uniform in (0,1). The chance to
// be first is an appliance's weight; the hash is the same for both weights, so
// that a title that crosses the cut-off stays where it is if it can. It returns
// the two that are nearest; -1 for one that there is not.
func prefer(cost []float64, shares []share, title uint64, popular bool) [2]int32 {
	best, first, second := [2]int32{-1, -1}, math.Inf(1), math.Inf(1)
	for i := range shares {
		w := shares[i].storage
		if popular {
			w = shares[i].bandwidth
		}
		u := (float64(mix(title^shares[i].node.hash)>>11) + 0.5) / (1 << 53)
		c := -math.Log(u) / max(w, 1e-12)
		cost[i] = c
		switch {
		case c < first:
			best, first, second = [2]int32{int32(i), best[0]}, c, first
		case c < second:
			best[1], second = int32(i), c
		}
	}
	return best
}

// nearest is the appliance with the least finite cost; -1 if there is none.
func nearest(cost []float64) (at int) {
	at = -1
	least := math.Inf(1)
	for i, c := range cost {
		if c < least {
			at, least = i, c
		}
	}
	return at
}
