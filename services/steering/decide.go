package steering

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// most is how many appliances a client is told of.
const most = 10

// class orders sites by how the client's network reaches them.
type class uint8

const (
	embedded class = iota // inside the client's ISP
	peering               // at an exchange that announces the client's prefix
	transit               // at an exchange that does not: reached through others
)

// nearness orders appliances for a client; of equal ones none is preferred. The
// longest prefix comes first, whoever announces it: who knows a network more
// closely is nearer to it, and a site that announces too much draws nobody away
// from those who announce exactly.
type nearness struct {
	bits  int // of the longest announced prefix that covers the client
	class class
	path  uint8 // networks on the way
	med   uint32
	far   time.Duration // from the client's region
}

func (a nearness) compare(b nearness) int {
	return cmp.Or(cmp.Compare(b.bits, a.bits), cmp.Compare(a.class, b.class), cmp.Compare(a.path, b.path), cmp.Compare(a.med, b.med), cmp.Compare(a.far, b.far))
}

// pick is an appliance of the answer. It is small: picks are moved about while
// an answer is put in order.
type pick struct {
	score float64
	slot  int32
	tier  int16 // 0 is nearest
	class class
}

// query is one request with what its filters read, and its answer.
type query struct {
	addr    netip.Addr
	key     uint64 // of the client and the title, for the spread
	title   *title
	exclude []string
	nowMS   int64
	// lenient: a stale report is no reason to strike; forgiving: that the client
	// found an appliance broken is none.
	lenient, forgiving bool
	want               int

	picks [most]pick
	n     int
	first int // of the picks, the first of the tier that is looked at
	// nearest is the class of the nearest tier; missed says that none of it may
	// serve, and onHealth that one of those had the title.
	nearest          class
	missed, onHealth bool
	// unsettled: somebody who holds the title was struck out for its health, or is
	// full and about to shed.
	unsettled bool

	// log, if set, hears of every appliance that was considered.
	log *explanation
}

// verdict of the filters on an appliance.
type verdict uint8

const (
	kept verdict = iota
	sick
	stale
	lacking
	excluded
)

// table is what decisions read of the routes and the appliances; immutable but
// for the routes and the states.
type table struct {
	routes  *prefixes
	apps    []*appliance // by slot; nil is gone
	present slotSet      // the slots that are not
	lots    []lot        // by slot, beside one another: most of a decision reads them
	states  states
	// exchanges are the appliances at exchanges, a group for each region, and
	// orders how they lie from a region, once somebody there asked.
	exchanges []*group
	orders    []atomic.Pointer[order]
}

// reach is a group as the client reaches it.
type reach struct {
	g    *group
	near nearness
}

// order is the exchanges, the nearest to a region first, as the places say.
type order struct {
	places *places
	far    []reach
}

// decide ranks the appliances for a query by what covers its client. The nearest
// tier with enough of them ends it: what is farther is not looked at, unless
// somebody listens.
func (t *table) decide(q *query, c cover, p *places, expiryMS int64) {
	q.n, q.missed, q.onHealth, q.unsettled, q.nearest = 0, false, false, false, transit
	var buf [16]reach
	near, region := t.reached(q, c, p, buf[:0])
	var s seen
	tier := -1
	for i := 0; i < len(near); {
		end := i + 1
		for end < len(near) && near[end].near == near[i].near {
			end++
		}
		tier++
		q.first = q.n
		before, had := q.n, false
		for ; i < end; i++ {
			had = t.consider(q, &near[i], tier, expiryMS, &s) || had
		}
		if tier == 0 {
			q.nearest = near[end-1].near.class
			q.missed, q.onHealth = q.n == before, had
		}
		if q.n == q.want && q.log == nil {
			return
		}
	}
	far := t.beyond(p, region)
	for i := range far {
		if i == 0 || far[i].near != far[i-1].near {
			tier++
			q.first = q.n
			if q.n == q.want && q.log == nil {
				return
			}
		}
		t.consider(q, &far[i], tier, expiryMS, &s)
	}
}

// beyond lists the exchanges, the nearest to a region first.
func (t *table) beyond(p *places, region int) []reach {
	if region >= len(t.orders) {
		return t.arrange(p, region)
	}
	at := &t.orders[region]
	o := at.Load()
	if o == nil || o.places != p {
		o = &order{p, t.arrange(p, region)}
		at.Store(o)
	}
	return o.far
}

// arrange puts the exchanges in order.
func (t *table) arrange(p *places, region int) []reach {
	out := make([]reach, 0, len(t.exchanges))
	for _, g := range t.exchanges {
		x := reach{g, nearness{class: transit, far: p.far(region, g.region)}}
		out = append(out, x)
		for j := len(out) - 1; j > 0 && cmp.Or(x.near.compare(out[j-1].near), cmp.Compare(g.region, out[j-1].g.region)) < 0; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

// reached lists the groups that announce the client, nearest first, and says in
// which region the client is.
func (t *table) reached(q *query, c cover, p *places, out []reach) ([]reach, int) {
	if c.odd {
		for prefix, o := range t.routes.covering(q.addr) {
			out = o.reached(prefix, out)
		}
	} else {
		for i := c.i; i >= 0; i = c.b.entries[i].up { // as covering does, without its function's cost
			out = c.b.entries[i].o.reached(int(c.b.entries[i].bits), out)
		}
	}
	region := p.regionOf(q.addr, out)
	for i := range out {
		out[i].near.far = p.far(region, out[i].g.region)
	}
	// Few: insertion keeps it on the stack.
	for i := 1; i < len(out); i++ {
		for j := i; j > 0 && out[j].near.compare(out[j-1].near) < 0; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out, region
}

// reached adds an origin's groups to those that announce the client.
func (o *origin) reached(prefix int, out []reach) []reach {
	for i := range o.groups {
		g := &o.groups[i]
		out = append(out, reach{g, nearness{class: g.class, bits: prefix, path: g.path, med: g.med}})
	}
	return out
}

// consider takes what is eligible of a group into the answer, and says whether
// one of it holds the title. Sixty-four appliances at a time it strikes out who
// is gone, was seen behind a longer prefix, or lacks the title; only what is
// left is looked at.
func (t *table) consider(q *query, r *reach, tier int, expiryMS int64, s *seen) (holds bool) {
	if q.log != nil {
		return t.listen(q, r, tier, expiryMS, s)
	}
	var drawn batch
	for _, x := range r.g.slots {
		left := x.mask & t.present.word(x.word) & q.title.holders.word(x.word)
		if left == 0 {
			continue
		}
		left = s.add(patch{left, x.word})
		holds = holds || left != 0
		for ; left != 0; left &= left - 1 {
			slot := x.word*64 + bits.TrailingZeros64(left)
			state := t.states.at(slot).Load()
			v := t.judge(q, slot, state, true, expiryMS)
			q.doubt(v, state)
			if v != kept {
				continue
			}
			d := t.lots[slot].ticket(q.key, loadOf(state))
			if q.n == q.want && d.most() < q.picks[q.n-1].score {
				continue // most are no better than the last, and that is cheap to see
			}
			drawn.slots[drawn.n%batchSize], drawn.scores[drawn.n%batchSize] = int32(slot), d.score()
			if drawn.n++; drawn.n == batchSize {
				q.takeAll(&drawn, r.near.class, tier, t)
			}
		}
	}
	q.takeAll(&drawn, r.near.class, tier, t)
	return holds
}

// batchSize is how many draws are made before the first is compared: the
// processor works them out beside one another, and guesses wrong less often.
const batchSize = 16

// batch is draws that wait to be compared.
type batch struct {
	n      int
	scores [batchSize]float64
	slots  [batchSize]int32
}

// takeAll takes a batch of one tier and empties it.
func (q *query) takeAll(b *batch, c class, tier int, t *table) {
	for i := range min(b.n, batchSize) {
		if q.n == q.want && b.scores[i] < q.picks[q.n-1].score {
			continue
		}
		q.take(pick{slot: b.slots[i], score: b.scores[i], class: c, tier: int16(tier)}, t)
	}
	b.n = 0
}

// listen is consider for somebody who wants to hear of every appliance.
func (t *table) listen(q *query, r *reach, tier int, expiryMS int64, s *seen) (holds bool) {
	for _, x := range r.g.slots {
		for left := s.add(x) & t.present.word(x.word); left != 0; left &= left - 1 {
			slot := x.word*64 + bits.TrailingZeros64(left)
			state := t.states.at(slot).Load()
			has := q.title.holders.has(slot)
			holds = holds || has
			v := t.judge(q, slot, state, has, expiryMS)
			q.log.note(t.apps[slot], r.near, v)
			if has {
				q.doubt(v, state)
			}
			if v == kept {
				q.take(pick{slot: int32(slot), score: t.lots[slot].draw(q.key, loadOf(state)), class: r.near.class, tier: int16(tier)}, t)
			}
		}
	}
	return holds
}

// silent says that no appliance, wherever it is, was heard since a time in Unix
// milliseconds. One that is silent may be dead; where all are, it is the hearing
// that fails.
func (t *table) silent(sinceMS int64) bool {
	for slot, a := range t.apps {
		if a != nil && heardOf(t.states.at(slot).Load()) >= sinceMS {
			return false
		}
	}
	return true
}

// doubt notes who makes the order likely to change.
func (q *query) doubt(v verdict, state uint64) {
	if v == sick || v == stale || v == kept && loadOf(state) >= loadSteps {
		q.unsettled = true
	}
}

// judge is what the filters say of an appliance.
func (t *table) judge(q *query, slot int, state uint64, has bool, expiryMS int64) verdict {
	switch {
	case state&stateOK == 0:
		return sick
	case !q.lenient && q.nowMS-heardOf(state) > expiryMS:
		return stale
	case !has:
		return lacking
	case len(q.exclude) > 0 && !q.forgiving && slices.Contains(q.exclude, t.apps[slot].id):
		return excluded
	}
	return kept
}

// take puts a pick in its place among those of its tier, if there is one.
func (q *query) take(x pick, t *table) {
	i := q.n
	if i == q.want {
		if i == q.first || !t.before(&x, &q.picks[i-1]) {
			return
		}
		i--
	} else {
		q.n++
	}
	for ; i > q.first && t.before(&x, &q.picks[i-1]); i-- {
		q.picks[i] = q.picks[i-1]
	}
	q.picks[i] = x
}

// before orders picks of one tier.
func (t *table) before(a, b *pick) bool {
	if a.score != b.score {
		return a.score > b.score
	}
	return t.apps[a.slot].id < t.apps[b.slot].id
}
