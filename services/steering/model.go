package steering

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

// forgetAfter is the number of report expiries after which an appliance that
// cache control no longer mentions is forgotten.
const forgetAfter = 10

// model is what the stream has told so far. One goroutine owns it; what it
// publishes for decisions (table, titles, health) is safe to read meanwhile.
// A change costs what changed: a report one pointer, a held file one title,
// and only announcements make a new table.
type model struct {
	srv    *Server
	known  map[string]*known
	assets map[string]*asset
	// slots number the appliances for the titles' bit sets. A number belongs to
	// an instance id for good: there are as many as the lab ever had.
	slots  map[string]int
	states states
	router *router
	waits  waits
	round  uint64 // of the stream, to see what a snapshot left out
	stale  bool   // the table is out of date
}

// known is one appliance.
type known struct {
	app      *appliance
	hello    *ccpb.Hello
	counter  uint64
	reported int64
	held     map[titleVersion][]string // sorted paths
	told     []*ccpb.TitleHeld         // as last told
	round    uint64
}

type titleVersion struct {
	title   string
	version uint64
}

// asset is the current version of a title.
type asset struct {
	version uint64
	paths   []string // sorted
	round   uint64
}

// title says who holds every file of a title's current version; immutable.
type title struct {
	id      string // as it is stored
	version uint64
	holders slotSet
	// short is the id once more if it is no longer than that, so that who compares
	// it finds it here.
	short [shortID]byte
	bytes uint64 // of all files
}

func newModel(s *Server) *model {
	return &model{srv: s, known: map[string]*known{}, assets: map[string]*asset{}, slots: map[string]int{}, router: newRouter(), waits: waits{&s.waiting, map[string]uint64{}}}
}

// begin starts a snapshot.
func (m *model) begin() { m.round++ }

// end ends a snapshot. An appliance that it left out is not forgotten yet: a
// cache control that has just started learns of them one by one. Its report
// ages, and that takes it out of the ranking in time.
func (m *model) end() {
	now := time.Now()
	for id, k := range m.known {
		if k.round != m.round && now.Sub(k.app.health.Load().heard) > forgetAfter*m.srv.expiry {
			m.gone(id)
		}
	}
	for id, a := range m.assets {
		if t := m.srv.titles.get(id); a.round != m.round && t != nil && t.holders.empty() {
			delete(m.assets, id)
			m.srv.titles.remove(id)
		}
	}
	m.waits.end(m.round)
}

// apply takes one event and reports whether the table is out of date now.
func (m *model) apply(ev *ccpb.WatchEvent, now time.Time) bool {
	switch {
	case ev.GetState() != nil:
		m.state(ev.GetState(), now)
	case ev.GetGone() != "":
		m.gone(ev.GetGone())
	case ev.GetAsset() != nil:
		m.waits.gone(ev.GetAsset().GetTitleId())
		m.asset(ev.GetAsset())
	case ev.GetWaiting() != nil:
		m.waits.is(ev.GetWaiting(), m.round)
	}
	return m.stale
}

func (m *model) build() {
	if m.stale {
		m.stale = false
		m.srv.table.Store(m.table())
		m.srv.bell.ring()
	}
}

// table is what decisions shall read from now on. It costs the number of
// appliances; the routes are as they were changed one by one, and decisions have
// seen that: who is not in their table yet is left out of an answer.
func (m *model) table() *table {
	t := &table{routes: m.router.table, apps: make([]*appliance, len(m.slots)), present: make(slotSet, (len(m.slots)+63)/64), lots: make([]lot, len(m.slots)), states: m.states, orders: make([]atomic.Pointer[order], m.srv.regions.len())}
	for _, k := range m.known {
		t.apps[k.app.slot], t.lots[k.app.slot] = k.app, k.app.lot
		t.present[k.app.slot/64] |= 1 << (k.app.slot % 64)
	}
	byRegion := map[int]*group{}
	for slot, a := range t.apps {
		if a == nil || a.isp {
			continue
		}
		region := m.router.apps[slot].region
		g := byRegion[region]
		if g == nil {
			g = &group{class: transit, region: region}
			byRegion[region] = g
			t.exchanges = append(t.exchanges, g)
		}
		g.add(slot)
	}
	return t
}

// state takes an appliance's state.
func (m *model) state(st *ccpb.ApplianceState, now time.Time) {
	id := st.GetHello().GetAppliance()
	if id == "" {
		m.srv.log.Error("cache control sent the state of an appliance without a name")
		return
	}
	k := m.known[id]
	if k == nil {
		k = &known{held: map[titleVersion][]string{}}
		m.known[id] = k
	}
	k.round = m.round
	if k.app == nil || !proto.Equal(k.hello, st.GetHello()) {
		old := k.app
		k.app, k.hello = m.appliance(st.GetHello(), old), st.GetHello()
		m.reroute(old, k.app)
		m.stale = true
	}
	m.health(k, st, now)
	m.holdings(k, st.GetTitles())
}

// appliance makes the part of an appliance that seldom changes; its slot and
// health carry over.
func (m *model) appliance(h *ccpb.Hello, old *appliance) *appliance {
	slot, ok := m.slots[h.GetAppliance()]
	if !ok {
		slot = len(m.slots)
		m.slots[h.GetAppliance()] = slot
		m.states = m.states.grown(slot)
		m.router.apps = append(m.router.apps, standing{})
	}
	a := &appliance{
		id: h.GetAppliance(), site: h.GetSite(), region: h.GetRegion(), kind: h.GetKind(), url: h.GetClientUrl(), plainURL: h.GetPlainUrl(), fillURL: h.GetFillUrl(),
		isp: h.GetKind() == string(topology.SiteISP), slot: slot, lot: newLot(h.GetAppliance(), max(1, float64(h.GetBandwidthBps()))),
		routes: make(map[netip.Prefix]route, len(h.GetPrefixes())),
	}
	m.learn(a, h)
	if old != nil {
		a.health = old.health
	} else {
		a.health = newHealth()
	}
	for _, text := range h.GetPrefixes() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			m.srv.log.Error("an appliance announces what is no prefix", "appliance", a.id, "prefix", text)
			continue
		}
		if topology.CatchAll(p) {
			a.tooWide(p)
		} else if _, ok := a.routes[p.Masked()]; !ok {
			a.routes[p.Masked()] = route{slot: slot}
		}
	}
	m.alarm(a, old)
	return a
}

// reroute brings the routing table from what an appliance announced to what it
// announces now; old is nil for a new one, and fresh for one that is gone.
func (m *model) reroute(old, fresh *appliance) {
	var was, is map[netip.Prefix]route
	slot := 0
	if old != nil {
		was, slot = old.routes, old.slot
	}
	if fresh != nil {
		is, slot = fresh.routes, fresh.slot
	}
	if fresh != nil {
		now := standing{isp: fresh.isp, region: m.srv.regions.of(fresh.region)}
		if old != nil && m.router.apps[slot] != now { // every origin that it is part of looks different
			for p := range was {
				m.router.withdraw(p, slot)
			}
			was = nil
		}
		m.router.apps[slot] = now
	}
	for p := range was {
		if _, still := is[p]; !still {
			m.router.withdraw(p, slot)
		}
	}
	for p, r := range is {
		if had, ok := was[p]; !ok || had != r {
			m.router.announce(p, r)
		}
	}
}

// health takes up a report. Its age counts from when it was heard here, and
// only a report that is new was heard: cache control repeats old ones. What
// was reported before this instance knew the appliance is dated back.
func (m *model) health(k *known, st *ccpb.ApplianceState, now time.Time) {
	first := k.app.health.Load().heard.IsZero()
	if !first && st.GetCounter() == k.counter && st.GetReportedUnixMs() == k.reported {
		return
	}
	k.counter, k.reported = st.GetCounter(), st.GetReportedUnixMs()
	heard := now
	if first && k.reported > 0 {
		heard = now.Add(-max(0, time.Duration(now.UnixMilli()-k.reported)*time.Millisecond))
	}
	r := st.GetReport()
	k.app.health.Store(&health{ok: r.GetHealthy(), reason: r.GetReason(), heard: heard})
	fresh := packState(r.GetHealthy(), step(r.GetLoad()), heard.UnixMilli())
	if was := m.states.at(k.app.slot).Swap(fresh); (was^fresh)&stateOK != 0 || m.srv.late(was, now) {
		m.srv.bell.ring()
	}
}

// holdings takes up which files an appliance stores.
func (m *model) holdings(k *known, titles []*ccpb.TitleHeld) {
	if slices.EqualFunc(k.told, titles, sameHeld) {
		return // a report: by far the most frequent state
	}
	k.told = titles
	changed := map[string]struct{}{}
	seen := make(map[titleVersion]struct{}, len(titles))
	for _, t := range titles {
		key := titleVersion{t.GetTitleId(), t.GetVersion()}
		seen[key] = struct{}{}
		paths := t.GetPaths()
		if !slices.IsSorted(paths) {
			paths = slices.Sorted(slices.Values(paths))
		}
		if !slices.Equal(k.held[key], paths) {
			k.held[key] = paths
			changed[key.title] = struct{}{}
		}
	}
	for key := range k.held {
		if _, ok := seen[key]; !ok {
			delete(k.held, key)
			changed[key.title] = struct{}{}
		}
	}
	for id := range changed {
		m.mark(id, k)
	}
}

func sameHeld(a, b *ccpb.TitleHeld) bool {
	return a.GetTitleId() == b.GetTitleId() && a.GetVersion() == b.GetVersion() && slices.Equal(a.GetPaths(), b.GetPaths())
}

// mark notes in the title whether the appliance holds all of it.
func (m *model) mark(id string, k *known) {
	a := m.assets[id]
	if a == nil {
		return // counted when the title becomes known
	}
	old := m.srv.titles.get(id)
	whole := a.heldBy(id, k)
	if old.holders.has(k.app.slot) == whole {
		return
	}
	m.srv.titles.store(id, &title{version: old.version, bytes: old.bytes, holders: old.holders.with(k.app.slot, whole)})
	m.srv.bell.ring()
}

// asset takes up a title, or a newer version of one.
func (m *model) asset(in *ccpb.Asset) {
	id := in.GetTitleId()
	old := m.assets[id]
	if old != nil && old.version >= in.GetVersion() {
		old.round = m.round
		return
	}
	a := &asset{version: in.GetVersion(), round: m.round, paths: make([]string, 0, len(in.GetFiles()))}
	t := &title{version: a.version}
	for _, f := range in.GetFiles() {
		a.paths = append(a.paths, f.GetPath())
		t.bytes += f.GetSize()
	}
	slices.Sort(a.paths)
	m.assets[id] = a
	for _, k := range m.known {
		if a.heldBy(id, k) {
			t.holders = t.holders.with(k.app.slot, true)
		}
	}
	m.srv.titles.store(id, t)
	m.srv.bell.ring()
}

// heldBy reports whether the appliance stores every file.
func (a *asset) heldBy(id string, k *known) bool {
	have := k.held[titleVersion{id, a.version}]
	if len(have) < len(a.paths) || len(a.paths) == 0 {
		return false
	}
	for _, p := range a.paths {
		if _, ok := slices.BinarySearch(have, p); !ok {
			return false
		}
	}
	return true
}

// gone forgets an appliance.
func (m *model) gone(id string) {
	k := m.known[id]
	if k == nil {
		return
	}
	delete(m.known, id)
	m.reroute(k.app, nil)
	m.stale = true
	held := k.held
	k.held = nil
	for key := range held {
		m.mark(key.title, k)
	}
}
