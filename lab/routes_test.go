package lab

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway"
	"github.com/flix-lab/flix/topology"
)

func twoRegions(t *testing.T) *intent {
	t.Helper()
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	return &intent{Name: "t", Topology: topo}
}

// TestTablesAreKeptAndBounded: what is wanted of the gateways and what can be
// rolled back to is one value, on disk as a whole.
func TestTablesAreKeptAndBounded(t *testing.T) {
	i := twoRegions(t)
	if now := i.table(); now.Version != 0 || len(now.Routes) != len(gateway.DefaultRoutes()) {
		t.Fatalf("the built-in table: %+v", now)
	}
	for v := 1; v <= keepTables+5; v++ {
		if err := i.setTable(routeTable{Version: v, Changes: []string{"~ x"}, Routes: []gateway.Route{{Name: "x", Prefix: "/", VIP: fmt.Sprint("v", v)}}}); err != nil {
			t.Fatal(err)
		}
		if v == 1 {
			if all := i.tables(); len(all) != 2 || all[0].Version != 0 {
				t.Errorf("after the first change: %+v", all)
			}
		}
	}
	dir := t.TempDir()
	if err := i.write(dir); err != nil {
		t.Fatal(err)
	}
	back, err := readIntent(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := back.tables()
	if len(all) != 1+keepTables || all[0].Version != 0 || all[1].Version != 6 || back.table().Version != keepTables+5 || back.table().Routes[0].VIP != "v55" {
		t.Errorf("%d versions, from %d and %d to %+v", len(all), all[0].Version, all[1].Version, back.table())
	}
	for _, r := range []string{"us-east", "us-west"} {
		value := back.Properties[r][topology.RoleGateway][gateway.PropertyRoutes]
		if tab, err := gateway.ParseTable(value, nil); err != nil || tab.Version != keepTables+5 {
			t.Errorf("%s: %s, %v", r, value, err)
		}
	}
	if v, err := earlier(back, 0); err != nil || len(v.Routes) != len(gateway.DefaultRoutes()) {
		t.Errorf("the built-in table, after many others: %+v, %v", v, err)
	}
	if _, err := earlier(back, 1); services.KindOf(err) != services.NotFound {
		t.Errorf("a version that is forgotten: %v", err)
	}
	if v, err := earlier(back, -1); err != nil || v.Version != keepTables+4 {
		t.Errorf("the one before: %+v, %v", v, err)
	}
	if _, err := earlier(twoRegions(t), -1); services.KindOf(err) != services.Conflict {
		t.Errorf("before the built-in one: %v", err)
	}
}

func TestChangesOfATable(t *testing.T) {
	now := gateway.DefaultRoutes()
	checked := func(rs ...gateway.Route) []gateway.Route {
		t.Helper()
		out, err := with(now, rs, true)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	find := func(rs []gateway.Route, name string) gateway.Route {
		k := slices.IndexFunc(rs, func(r gateway.Route) bool { return r.Name == name })
		if k < 0 {
			t.Fatalf("no route %s in %+v", name, rs)
		}
		return rs[k]
	}
	next := checked(gateway.Route{Name: "canary", Prefix: "/play/v2", VIP: "canary"}, gateway.Route{Name: "open", Prefix: "/open", VIP: "web"}, gateway.Route{Name: "rows", Prefix: "/rows", VIP: "discovery"})
	if !find(next, "canary").Member || find(next, "open").Member || !find(next, "rows").Member || find(next, "rows").Class != "degraded" {
		t.Errorf("what new routes ask of a client: %+v", next)
	}
	if d := differences(now, next); strings.Join(d, ",") != "+ canary,+ open,+ rows" {
		t.Errorf("differences %v", d)
	}
	replaced := checked(gateway.Route{Name: "play", Prefix: "/play", VIP: "play2"})
	if d := differences(now, replaced); strings.Join(d, ",") != "~ play" || len(replaced) != len(now) {
		t.Errorf("differences %v", d)
	}
	if d := differences(now, now); len(d) != 0 {
		t.Errorf("differences to itself: %v", d)
	}
	left, err := without(now, []string{"play", "signup"})
	if err != nil || len(left) != len(now)-2 || strings.Join(differences(now, left), ",") != "- signup,- play" {
		t.Errorf("%+v, %v", left, err)
	}
	if _, err := without(now, []string{"nosuch"}); services.KindOf(err) != services.NotFound {
		t.Errorf("%v", err)
	}
	var all []string
	for _, r := range now {
		all = append(all, r.Name)
	}
	if _, err := without(now, all); services.KindOf(err) != services.Conflict {
		t.Errorf("%v", err)
	}
	if len(now) != len(gateway.DefaultRoutes()) || now[len(now)-1].VIP != "play" {
		t.Errorf("the table that was is changed: %+v", now)
	}
}

func TestQuantile(t *testing.T) {
	counts := make([]int64, 400)
	if q := quantile(counts, 0.99); q != 0 {
		t.Errorf("of nothing: %v", q)
	}
	for ms := 1; ms <= 1000; ms++ { // evenly from 1 to 1000 ms
		for k := range counts {
			if gateway.LatencyBucket(k) >= time.Duration(ms)*time.Millisecond {
				counts[k]++
				break
			}
		}
	}
	for p, want := range map[float64]float64{0.5: 500, 0.99: 990, 1: 1000} {
		if q := quantile(counts, p); math.Abs(q-want) > 0.07*want {
			t.Errorf("p%v is %v ms, want about %v", p*100, q, want)
		}
	}
}

// A route to a role that gateways do not reach is refused when it is set; one to a
// VIP that nobody knows yet is not.
func TestRoutesToWhatGatewaysReach(t *testing.T) {
	i := twoRegions(t)
	for vip, good := range map[string]bool{
		"play": true, "license": true, "play-canary": true, "": true, "s3": true, "keystone": false, "dns": false,
		"evcache": false, "kafka": false, "kv": false, "search": false, "sql": false,
	} {
		err := routable(i, gateway.Route{Name: "x", Prefix: "/x", VIP: vip})
		if (err == nil) != good || err != nil && (services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), `"`+vip+`"`)) {
			t.Errorf("%q: %v", vip, err)
		}
	}
	for _, inst := range i.instances() {
		good := inst.Role == topology.RolePlay
		if !good && inst.Role != topology.RoleEVCache {
			continue
		}
		if err := routable(i, gateway.Route{Name: "x", Overlay: true, Instance: inst.ID}); (err == nil) != good {
			t.Errorf("%s: %v", inst.ID, err)
		}
	}
}
