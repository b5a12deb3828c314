package cachecontrol

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/topology"
)

func (w *world) rule(kind, scope, title string, active bool) {
	w.now = w.now.Add(time.Millisecond)
	w.p.setRule(&pb.FillRule{Kind: kind, Scope: scope, TitleId: title, Active: active, Version: w.now.UnixNano()})
	w.plan()
}

func TestPauseStopsNewOrders(t *testing.T) {
	for _, scope := range []string{"", "us-east", "us-east-ix", "us-east/us-east-ix/oca/1"} {
		t.Run("of "+scopeName(scope), func(t *testing.T) {
			w := exchangeOnly(t, 1)
			w.rule(rulePause, scope, "", true)
			w.connect(w.ids()...)
			if busy := w.busy(); len(busy) != 0 {
				t.Fatalf("%v fill though they are paused", busy)
			}
			n := w.p.nodes[w.ids()[0]]
			if o := w.p.outlook(n, 0, w.now); o.state != stateBlocked || !strings.Contains(o.why, "paused") || o.from != "origin/us-east" {
				t.Errorf("%+v", o)
			}
			w.rule(rulePause, scope, "", false)
			w.settle(rand.New(rand.NewPCG(1, 1)))
			w.wantComplete()
		})
	}
}

func TestOlderRuleDoesNotComeBack(t *testing.T) {
	w := exchangeOnly(t, 1)
	w.p.setRule(&pb.FillRule{Kind: rulePause, Version: 7})
	if w.p.setRule(&pb.FillRule{Kind: rulePause, Active: true, Version: 6}) || len(w.p.rules.active()) != 0 {
		t.Error("a pause that was ended is in force again")
	}
}

func TestEndedRulesAreForgotten(t *testing.T) {
	w := exchangeOnly(t, 1)
	for i, title := range []string{"tt-old", "tt-new", "tt-pinned"} {
		w.p.setRule(&pb.FillRule{Kind: rulePin, TitleId: title, Active: i == 2, Version: w.now.Add(time.Duration(i) * time.Hour).UnixNano()})
	}
	w.p.rules.forget(w.now.Add(endedRule + time.Minute))
	if len(w.p.rules) != 2 || len(w.p.rules.active()) != 1 || w.p.rules[ruleKey{rulePin, "", "tt-old"}] != nil {
		t.Errorf("%v are remembered", w.p.rules)
	}
}

func TestPausedMasterIsReplaced(t *testing.T) {
	w := exchangeOnly(t, 2)
	master := w.p.master(w.p.sites["us-east-ix"], w.p.cat.files[0].sum).id
	w.rule(rulePause, master, "", true)
	w.connect(w.ids()...)
	if busy := w.busy(); len(busy) != 1 || busy[0] == master {
		t.Errorf("%v fill, %s is paused", busy, master)
	}
}

func TestPinGoesBeforePopularity(t *testing.T) {
	w := cluster(t, machines(2, 1_000, 10e9), 60, func(int) uint64 { return 100 })
	const last = "tt-00059"
	if len(w.where()[last]) != 0 {
		t.Fatal("the least popular title has a place")
	}
	id := w.ids()[1]
	w.rule(rulePin, id, last, true)
	if got := w.where()[last]; !slices.Equal(got, []string{id}) {
		t.Errorf("pinned to %s, placed on %v", id, got)
	}
	w.rule(rulePin, id, last, false)
	if got := w.where()[last]; len(got) != 0 {
		t.Errorf("unpinned and still on %v", got)
	}
}

func TestUrgentTitleGoesFirstAndOutsideTheWindow(t *testing.T) {
	timing := topology.LabTiming()
	timing.FillWindowStart, timing.FillWindow = topology.Duration(22*time.Hour), topology.Duration(4*time.Hour)
	w := newWorld(t, 1, timing) // the world's clock says 03:04
	w.publish(asset("tt-hit", 1, 9, origins, 100))
	w.publish(asset("tt-new", 1, 1, origins, 100))
	w.connect(w.ids()...)
	w.rule(ruleUrgent, "", "tt-new", true)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	for _, id := range w.ids() {
		if !w.disk[id][fileRef{"tt-new", 1, "f0"}] || w.disk[id][fileRef{"tt-hit", 1, "f0"}] {
			t.Errorf("%s holds %v, want the urgent title alone", id, w.disk[id])
		}
	}
	if !w.p.fulfilled(&pb.FillRule{Kind: ruleUrgent, TitleId: "tt-new"}) {
		t.Error("the rule is not fulfilled")
	}
}

func TestWindowGoesByTheSitesClock(t *testing.T) {
	timing := topology.LabTiming()
	timing.FillWindowStart, timing.FillWindow = topology.Duration(2*time.Hour), topology.Duration(4*time.Hour)
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	topo.Regions[0].UTCOffset, topo.Regions[1].UTCOffset = "-05:00", "+05:30"
	w := newWorldOf(t, topo, timing) // 03:04 UTC: 22:04 and 08:34
	w.publish(asset("tt-a", 1, 1, []string{"us-east", "us-west"}, 100))
	w.connect(w.ids()...)
	if busy := w.busy(); len(busy) != 0 {
		t.Fatalf("%v fill outside their windows", busy)
	}
	w.pass(5 * time.Hour) // 03:04 in us-east, 13:34 in us-west
	if busy := w.busy(); len(busy) == 0 || slices.ContainsFunc(busy, func(id string) bool { return w.info[id].region != "us-east" }) {
		t.Errorf("%v fill, want those of us-east alone", busy)
	}
}

func TestStalledExchangeIsPassedBy(t *testing.T) {
	timing := topology.LabTiming()
	w := newWorld(t, 2, timing)
	w.publish(asset("tt-a", 1, 1, []string{"us-east"}, 100))
	w.rule(rulePause, "us-west-ix", "", true)
	w.connect(w.ids()...)
	w.settle(rand.New(rand.NewPCG(1, 1)))
	if n := w.bySource[pb.Source_SOURCE_CACHE]; n != 100 {
		t.Fatalf("%d bytes from the object stores while us-west waits", n)
	}
	// One hop further: the other region's exchange has it.
	w.pass(timing.FillEscalation.D())
	busy := w.busy()
	if len(busy) != 2 {
		t.Fatalf("%v fill, want one of each ISP site of us-west", busy)
	}
	for _, id := range busy {
		if src := w.flying[id][0].sources[0]; src.kind != pb.Source_SOURCE_TIER || src.region != "us-east" {
			t.Errorf("%s fills from %+v", id, src)
		}
	}
	w.settle(rand.New(rand.NewPCG(1, 1)))
	if n := w.bySource[pb.Source_SOURCE_CACHE]; n != 100 {
		t.Errorf("%d bytes from the object stores", n)
	}
}

func TestStalledExchangeWithoutAnotherEndsAtTheOrigin(t *testing.T) {
	timing := topology.LabTiming()
	w := newWorld(t, 1, timing)
	w.publish(asset("tt-a", 1, 1, origins, 100))
	w.rule(rulePause, "us-east-ix", "", true)
	w.connect(w.ids()...)
	w.pass(timing.FillEscalation.D() + time.Second)
	if busy := w.busy(); len(busy) != 0 {
		t.Fatalf("%v do not wait", busy)
	}
	w.pass(timing.FillEscalation.D())
	if busy := w.busy(); len(busy) != 2 || w.flying[busy[0]][0].sources[0].kind != pb.Source_SOURCE_CACHE {
		t.Fatalf("%v fill, want one of each ISP site from the object store", busy)
	}
}

func TestRulesReachOtherRegionsAndSurviveARestart(t *testing.T) {
	p := newPlanet(t)
	east, west := p.start("us-east"), p.start("us-west")
	p.publish(east, asset("tt-a", 1, 1, origins, 100))
	p.heardOf("us-west")
	set := func(c pb.CacheControlClient, r *pb.FillRule) ([]*pb.FillRule, error) {
		reply, err := c.SetFillRules(t.Context(), &pb.SetFillRulesRequest{Rules: []*pb.FillRule{r}})
		return reply.GetRules(), err
	}
	if _, err := set(east, &pb.FillRule{Kind: rulePause, Scope: "us-west-ix", Active: true}); err != nil {
		t.Fatal(err)
	}
	if rules, err := set(west, &pb.FillRule{Kind: rulePin, TitleId: "tt-a", Scope: "us-east", Active: true}); err != nil || len(rules) != 2 {
		t.Fatalf("us-west knows %v (%v), want both", rules, err)
	}
	p.stop["us-east"]()
	east = p.start("us-east")
	eventually(t, func() string {
		r, err := east.FillStatus(t.Context(), &pb.FillStatusRequest{})
		if err != nil || len(r.Rules) != 2 {
			return "after a restart the rules are " + rulesText(r.GetRules())
		}
		return ""
	})
	for _, bad := range []*pb.FillRule{
		{Kind: "stop", Active: true}, {Kind: rulePause, Scope: "mars", Active: true}, {Kind: rulePause, TitleId: "tt-a", Active: true},
		{Kind: rulePin, TitleId: "tt-none", Active: true},
	} {
		if _, err := set(west, bad); services.KindOf(err) != services.Invalid && services.KindOf(err) != services.NotFound {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// heardOf waits until a region knows a title: the news travels in the background.
func (p *planet) heardOf(region string) {
	p.t.Helper()
	eventually(p.t, func() string {
		r, err := must(p.client(region)).Titles(p.t.Context(), &pb.TitlesRequest{})
		if err != nil || len(r.Assets) == 0 {
			return region + " does not know the title"
		}
		return ""
	})
}

func rulesText(rules []*pb.FillRule) string {
	var out []string
	for _, r := range rules {
		out = append(out, keyOfRule(r).String())
	}
	return strings.Join(out, ", ")
}

func TestPlanAndExplainTellWhy(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	p.start("us-west")
	a := asset("tt-a", 1, 1, origins, 100, 200)
	p.publish(east, a)
	p.heardOf("us-west")
	ix := p.connect(east, "us-east/us-east-ix/oca/1", 0)
	ix.got("fill", func(m *pb.ControlMessage) bool { return m.GetFill() != nil })
	isp := p.connect(east, "us-east/us-east-isp-1/oca/1", 0)
	_ = isp
	eventually(t, func() string { return p.knows("us-east", "us-east/us-east-isp-1/oca/1") })
	plan, err := must(p.client("us-west")).FillPlan(t.Context(), &pb.FillPlanRequest{Scope: "us-east"})
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, m := range plan.Moves {
		states[m.Appliance] = m.File.State
		if m.Appliance == "us-east/us-east-isp-1/oca/1" && !strings.HasPrefix(m.File.From, "us-east/us-east-i") {
			t.Errorf("the ISP's appliance waits for %q", m.File.From)
		}
	}
	if states["us-east/us-east-ix/oca/1"] != stateInFlight && states["us-east/us-east-ix/oca/1"] != stateWaiting || states["us-east/us-east-isp-1/oca/1"] != stateWaiting || states["us-east/us-east-ix/oca/2"] != stateBlocked {
		t.Errorf("states %v", states)
	}
	if plan.Time.BoundMs < 0 || plan.Time.MissingBytes == 0 || plan.Time.EtaMs != never {
		t.Errorf("time %v: appliances that are out never get it", plan.Time)
	}
	e, err := must(p.client("us-west")).FillExplain(t.Context(), &pb.FillExplainRequest{TitleId: "tt-a", Appliance: "us-east/us-east-isp-1/oca/1"})
	if err != nil || !e.Own || e.Planner != "us-east/a/cachecontrol/1" || e.State != stateWaiting || len(e.Files) != 2 {
		t.Fatalf("%v (%v), want the answer of who plans for it", e, err)
	}
	for _, want := range []string{"popularity", "rank", "cut_off", "capacity", "placement", "pin", "window", "pause", "liveness", "appliance"} {
		if !slices.ContainsFunc(e.Checks, func(c *pb.FillCheck) bool { return c.Check == want && c.Text != "" }) {
			t.Errorf("check %s is missing: %v", want, e.Checks)
		}
	}
	if _, err := east.FillExplain(t.Context(), &pb.FillExplainRequest{TitleId: "tt-none", Appliance: "us-east/us-east-isp-1/oca/1"}); services.KindOf(err) != services.NotFound {
		t.Errorf("an unknown title: %v", err)
	}
	if _, err := east.FillExplain(t.Context(), &pb.FillExplainRequest{TitleId: "tt-a", Appliance: "us-east"}); services.KindOf(err) != services.NotFound {
		t.Errorf("a region is no appliance: %v", err)
	}
}

// Whoever begins to watch while a new version waits for its date hears of the
// one before it.
func TestVersionBeforeOneThatWaitsIsShown(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	p.publish(east, asset("tt-a", 1, 1, origins, 100))
	next := asset("tt-a", 2, 1, origins, 100)
	next.AvailableUnixMs = p.now().Add(time.Hour).UnixMilli()
	p.publish(east, next)
	w := p.watch(east)
	w.until(t, func() string {
		if !w.ended || w.assets["tt-a"].GetVersion() != 1 {
			return fmt.Sprintf("version %d is shown, want 1", w.assets["tt-a"].GetVersion())
		}
		return ""
	})
}

func TestTitleIsShownWhenItIsLive(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	w := p.watch(east)
	a := asset("tt-a", 1, 1, origins, 100)
	a.AvailableUnixMs = p.now().Add(time.Hour).UnixMilli()
	b := asset("tt-b", 1, 1, origins, 100)
	b.MinSites = 2
	p.publish(east, a)
	p.publish(east, b)
	r, err := east.FillStatus(t.Context(), &pb.FillStatusRequest{})
	if err != nil || !slices.Equal(r.Waiting, []string{"tt-a", "tt-b"}) || !slices.Equal(r.Unheld, []string{"tt-a", "tt-b"}) {
		t.Fatalf("waiting %v, unheld %v (%v)", r.GetWaiting(), r.GetUnheld(), err)
	}
	if len(r.Waits) != 2 || !strings.Contains(r.Waits[0].Why, time.UnixMilli(a.AvailableUnixMs).UTC().Format(time.RFC3339)) || r.Waits[1].MinSites != 2 || r.Waits[1].Sites != 0 {
		t.Errorf("what they wait for: %v", r.Waits)
	}
	late := p.watch(east) // and who begins to watch now hears of it, too
	late.until(t, func() string {
		if late.waits["tt-b"].GetMinSites() != 2 || !strings.Contains(late.waits["tt-b"].GetWhy(), "0 sites hold all of it, 2 are asked for") {
			return fmt.Sprintf("waits %v", late.waits)
		}
		return ""
	})
	p.pass(time.Hour)
	w.until(t, func() string {
		if w.assets["tt-a"] == nil {
			return "the title whose date has come is not shown"
		}
		return ""
	})
	w.mu.Lock()
	if w.assets["tt-b"] != nil {
		t.Error("a title that no site holds is shown though it wants two")
	}
	w.mu.Unlock()
	p.connect(east, "us-east/us-east-ix/oca/1", 0, heldFileOf(b, 0))
	p.connect(east, "us-east/us-east-isp-1/oca/1", 0, heldFileOf(b, 0))
	w.until(t, func() string {
		if w.assets["tt-b"] == nil {
			return "the title that two sites hold is not shown"
		}
		if len(w.waits) > 0 {
			return fmt.Sprintf("it still waits: %v", w.waits)
		}
		return ""
	})
}

func TestUnevenSiteRaisesAlarm(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	for n, prefixes := range [][]string{{"198.18.0.0/20"}, {"198.18.0.0/20", "198.18.16.0/20"}} {
		id := []string{"us-east/us-east-isp-1/oca/1", "us-east/us-east-isp-1/oca/2"}[n]
		f := p.connect(east, id, 0)
		f.send(&pb.ApplianceMessage{}) // the stream is up
		s := p.servers["us-east"]
		eventually(t, func() string { return p.knows("us-east", id) })
		s.mu.Lock()
		h := proto.CloneOf(s.appliances[id].hello) // the one before is shared
		h.Prefixes = prefixes
		s.appliances[id].hello = h
		s.mu.Unlock()
	}
	eventually(t, func() string {
		r, err := east.FillStatus(t.Context(), &pb.FillStatusRequest{})
		if err != nil || !slices.Equal(r.Uneven, []string{"us-east-isp-1"}) {
			return "uneven sites are not reported"
		}
		return ""
	})
}

// What steering ignores of a site's routes is shown where its fill is.
func TestIgnoredPrefixesAreListed(t *testing.T) {
	p := newPlanet(t)
	east := p.start("us-east")
	for n, id := range []string{"us-east/us-east-isp-1/oca/1", "us-east/us-east-isp-1/oca/2"} {
		f := p.connect(east, id, 0)
		f.send(&pb.ApplianceMessage{}) // the stream is up
		s := p.servers["us-east"]
		eventually(t, func() string { return p.knows("us-east", id) })
		s.mu.Lock()
		h := proto.CloneOf(s.appliances[id].hello) // the one before is shared
		h.Prefixes = [][]string{{"198.18.0.0/20", "0.0.0.0/0"}, {"0.0.0.0/0"}}[n]
		h.Routes = []*pb.Route{{Prefix: "::/0"}, {Prefix: "2001:db8::/32"}}
		s.appliances[id].hello = h
		s.mu.Unlock()
	}
	eventually(t, func() string {
		r, err := east.FillStatus(t.Context(), &pb.FillStatusRequest{})
		var got []string
		for _, p := range r.GetIgnored() {
			got = append(got, p.GetSite()+" "+p.GetPrefix())
		}
		if want := []string{"us-east-isp-1 0.0.0.0/0", "us-east-isp-1 ::/0"}; err != nil || !slices.Equal(got, want) {
			return fmt.Sprintf("ignored are %v, want %v: %v", got, want, err)
		}
		return ""
	})
}
