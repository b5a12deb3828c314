package fault

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// planet is a lab of three regions in which everything runs.
func planet(t testing.TB) View {
	t.Helper()
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	v := View{Topology: topo, Instances: topo.Instances(), Running: map[string]bool{}, Runtime: onEmbedded, Stores: map[string]bool{}, Now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC),
		Calls: map[string][]string{"license": {"Issue", "Release"}, "steering": {"Rank"}}, Paths: []string{"/play", "/discovery"}}
	for _, i := range v.Instances {
		v.Running[i.ID] = true
	}
	return v
}

// alone is a lab of one region in which everything runs.
func alone(t testing.TB) View {
	t.Helper()
	v := planet(t)
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	v.Topology, v.Instances = topo, topo.Instances()
	return v
}

// What a kind is about is a list that a person reads.
func TestRemedyNamesRoles(t *testing.T) {
	_, _, err := Plan("f-1", Request{Kind: "clock-skew", Target: "us-east/a/play/1"}, planet(t))
	if want := "it is about kv, license, oca"; services.ProblemOf(err).Remedy != want {
		t.Errorf("%v → %s, want %s", err, services.ProblemOf(err).Remedy, want)
	}
}

func TestEveryKindPlans(t *testing.T) {
	targets := map[string]string{
		"broker-down": "us-east", "fail-call": "license", "slow-call": "license/Issue", "disk-full": "us-east-isp-1", "disk-slow": "us-east-isp-1",
		"cache-flush": "us-east", "clock-skew": "license", "cpu-hog": "us-east", "dns-fail": "us-east", "cert-expired": "gateway@us-east", "store-down": "us-east/b/evcache/2",
	}
	for _, k := range Kinds() {
		target := targets[k.Name]
		if target == "" {
			target = "us-east/a/gateway/1"
		}
		f, b, err := Plan("f-1", Request{Kind: k.Name, Target: target}, planet(t))
		if err != nil {
			t.Errorf("%s on %s: %v", k.Name, target, err)
			continue
		}
		if k.Reverts != (!f.Until.IsZero()) || k.Reverts != f.Effect.Lasting() {
			t.Errorf("%s: until %v, lasting %v, reverts %v", k.Name, f.Until, f.Effect.Lasting(), k.Reverts)
		}
		if len(b.Text) == 0 {
			t.Errorf("%s: nothing is said of its blast radius", k.Name)
		}
		if k.Summary == "" || len(k.Targets) == 0 || len(k.Runtimes) == 0 {
			t.Errorf("%s is not described", k.Name)
		}
	}
}

func TestTargets(t *testing.T) {
	v := planet(t)
	for target, want := range map[string]int{
		"us-east/a/play/1": 1, "us-east/b": 0, "us-east": 26, "play": 6, "play@us-west": 2, "region:us-west": 26,
		"us-east-isp-1/oca/2": 1, "appliance:us-east-ix/oca/1": 1, "instance:us-east-ix/oca/1": 1, // as the verbs of the fill take them
		"us-east-isp-1": 2, "us-east-ix": 2, "us-east/us-east-isp-1/oca/1": 1, "isp:us-east-isp-1": 2, "service:oca": 18, "zone:us-east/b": 0,
	} {
		got, err := v.resolve(target, lives)
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if want > 0 && len(got.instances) != want || len(got.instances) == 0 {
			t.Errorf("%s is %d instances, want %d", target, len(got.instances), want)
		}
	}
	for _, target := range []string{"", "us-est", "region:play", "play@mars", "us-east/z", "weird:us-east", "us-east/a/play/9"} {
		_, _, err := Plan("f-1", Request{Kind: "kill", Target: target}, v)
		var e *services.Error
		if !errors.As(err, &e) || e.Remedy == "" {
			t.Errorf("%q: %v without a remedy", target, err)
		}
	}
}

// An appliance is the same one by either of its names.
func TestApplianceByItsShortName(t *testing.T) {
	v := planet(t)
	f, b, err := Plan("f-1", Request{Kind: "disk-full", Target: "us-east-isp-1/oca/2"}, v)
	if want := []string{"us-east/us-east-isp-1/oca/2"}; err != nil || !slices.Equal(f.Effect.Disk.Instances, want) || !slices.Equal(b.Instances, want) {
		t.Fatalf("%+v, touches %q, %v", f.Effect, b.Instances, err)
	}
	v.Active = []Fault{f}
	if _, _, err := Plan("f-2", Request{Kind: "disk-slow", Target: "us-east/us-east-isp-1/oca/2"}, v); services.ReasonOf(err) != ReasonFaulted {
		t.Errorf("by its long name it is not faulted: %v", err)
	}
	if _, _, err := Plan("f-3", Request{Kind: "latency", Target: "us-east-isp-1/oca/1", To: "us-east/us-east-isp-1/oca/1"}, v); services.KindOf(err) != services.Invalid {
		t.Errorf("a link to itself: %v", err)
	}
}

// Whom calls reach is told before they fail.
func TestBlastOfCalls(t *testing.T) {
	for _, c := range []struct {
		target, region string
		instances      int
		regions        []string
	}{
		{"license", "", 3, []string{"us-east", "us-west", "eu-west"}},
		{"License/issue", "us-east", 1, []string{"us-east"}},
		{"/play/start", "", 6, []string{"us-east", "us-west", "eu-west"}},
	} {
		r := Request{Kind: "fail-call", Target: c.target}
		if c.region != "" {
			r.Params = map[string]string{"region": c.region}
		}
		_, b, err := Plan("f-1", r, planet(t))
		if err != nil || len(b.Instances) != c.instances || !slices.Equal(b.Regions, c.regions) || len(b.Roles) > 0 {
			t.Errorf("%s: %+v, %v", c.target, b, err)
		}
		if want := "100 % of the calls of " + c.target + " fail, for "; !strings.HasPrefix(b.Text[0], want) {
			t.Errorf("text %q, want %q", b.Text[0], want)
		}
	}
}

func TestRefusals(t *testing.T) {
	plan := func(v View, r Request) error { _, _, err := Plan("f-2", r, v); return err }
	active := func(v View, r Request) View {
		f, _, err := Plan("f-1", r, v)
		if err != nil {
			t.Fatal(err)
		}
		v.Active = append(slices.Clone(v.Active), f)
		return v
	}
	whole := planet(t)
	twoLost := active(active(whole, Request{Kind: "kill", Target: "us-east"}), Request{Kind: "kill", Target: "us-west", Force: true})
	evacuated := planet(t)
	evacuated.Evacuated = map[string]bool{"us-east": true, "us-west": true}
	silent := planet(t)
	silent.Running = map[string]bool{}
	onBoxes := planet(t)
	onBoxes.Runtime, onBoxes.Stores = onContainers, map[string]bool{"us-east/a/kafka/1": true}
	for _, c := range []struct {
		name string
		v    View
		r    Request
		kind services.Kind
		says string
	}{
		{"a kind that is none", whole, Request{Kind: "sulk", Target: "us-east"}, services.NotFound, "sulk"},
		{"a parameter that is none", whole, Request{Kind: "latency", Target: "us-east", Params: map[string]string{"colour": "red"}}, services.Invalid, "colour"},
		{"a delay that is none", whole, Request{Kind: "latency", Target: "us-east", Params: map[string]string{"delay": "soon"}}, services.Invalid, "soon"},
		{"a loss above all", whole, Request{Kind: "loss", Target: "us-east", Params: map[string]string{"percent": "101"}}, services.Invalid, "101"},
		{"a loss of nothing", whole, Request{Kind: "loss", Target: "us-east", Params: map[string]string{"percent": "NaN"}}, services.Invalid, "NaN"},
		{"itself", whole, Request{Kind: "partition", Target: "us-east", To: "us-east"}, services.Invalid, "itself"},
		{"an end too many", whole, Request{Kind: "kill", Target: "us-east", To: "us-west"}, services.Invalid, "no other end"},
		{"a time below nothing", whole, Request{Kind: "kill", Target: "play", TTL: -time.Second}, services.Invalid, "--ttl"},
		{"nothing to revert", whole, Request{Kind: "restart", Target: "us-east/a/play/1", TTL: time.Second}, services.Invalid, "over at once"},
		{"a call of nobody", whole, Request{Kind: "fail-call", Target: "lunch"}, services.NotFound, "lunch"},
		{"the same again", active(whole, Request{Kind: "kill", Target: "us-east/a/play/1"}), Request{Kind: "pause", Target: "us-east/a/play/1"}, services.Conflict, "f-1"},
		{"a part of what is lost", active(whole, Request{Kind: "kill", Target: "us-east"}), Request{Kind: "kill", Target: "us-east/a/play/1"}, services.Conflict, "f-1"},
		{"the same link from its other end", active(whole, Request{Kind: "latency", Target: "us-east", To: "us-west"}), Request{Kind: "loss", Target: "us-west", To: "us-east"}, services.Conflict, "f-1"},
		{"what does not run", silent, Request{Kind: "kill", Target: "us-east/a/play/1"}, services.Conflict, "does not run"},
		{"what is no store", whole, Request{Kind: "store-down", Target: "us-east/a/play/1"}, services.Invalid, "not a store"},
		{"the only node of a store", whole, Request{Kind: "store-down", Target: "us-east"}, services.Conflict, "⌊1/2⌋+1 = 1"},
		{"the second last region", active(whole, Request{Kind: "kill", Target: "us-east"}), Request{Kind: "kill", Target: "us-west"}, services.Conflict, "1 would be left"},
		{"the last region, by force", twoLost, Request{Kind: "kill", Target: "eu-west", Force: true}, services.Conflict, "1 − 1 = 0"},
		{"a service everywhere", whole, Request{Kind: "kill", Target: "gateway", Force: true}, services.Conflict, "3 − 3 = 0"},
		{"the last DNS server", whole, Request{Kind: "kill", Target: "dns", Force: true}, services.Conflict, "3 − 3 = 0"},
		{"the gateways' certificates", whole, Request{Kind: "cert-expired", Target: "gateway"}, services.Conflict, "3 − 3 = 0"},
		{"a service cut off everywhere", whole, Request{Kind: "partition", Target: "play", Params: map[string]string{"one_way": "true"}}, services.Conflict, "3 − 3 = 0"},
		{"a service that loses everything", whole, Request{Kind: "loss", Target: "elb", Params: map[string]string{"percent": "100"}}, services.Conflict, "3 − 3 = 0"},
		{"a store that is cut off", whole, Request{Kind: "blackhole", Target: "us-east/a/kv/1"}, services.Conflict, "⌊1/2⌋+1 = 1"},
		{"the second last region cut off", active(whole, Request{Kind: "partition", Target: "us-east"}), Request{Kind: "blackhole", Target: "us-west"}, services.Conflict, "1 would be left"},
		{"the last region cut off", active(active(whole, Request{Kind: "partition", Target: "us-east"}), Request{Kind: "partition", Target: "us-west", Force: true}), Request{Kind: "reset", Target: "eu-west", Force: true}, services.Conflict, "1 − 1 = 0"},
		{"the last region beside others", whole, Request{Kind: "kill", Target: "eu-west", Force: true, Beside: []Request{{Kind: "kill", Target: "us-east"}, {Kind: "kill", Target: "us-west", Force: true}}}, services.Conflict, "1 − 1 = 0"},
		{"what is done beside it", whole, Request{Kind: "kill", Target: "us-east", Beside: []Request{{Kind: "pause", Target: "us-east/a/play/1"}}}, services.Conflict, "us-east/a/play/1"},
		{"the region that savers are", evacuated, Request{Kind: "kill", Target: "eu-west", Force: true}, services.Conflict, "1 − 1 = 0"},
		{"the same link by its sort", active(whole, Request{Kind: "latency", Target: "us-east"}), Request{Kind: "loss", Target: "region:us-east"}, services.Conflict, "us-east and the rest"},
		{"a method of nobody", whole, Request{Kind: "fail-call", Target: "license/Lunch"}, services.NotFound, "Lunch"},
		{"a path of nobody", whole, Request{Kind: "fail-call", Target: "/lunch"}, services.NotFound, "/lunch"},
		{"a device that is none", whole, Request{Kind: "fail-call", Target: "license", Params: map[string]string{"devices": "toaster"}}, services.NotFound, "toaster"},
		{"a country that is none", whole, Request{Kind: "fail-call", Target: "license", Params: map[string]string{"countries": "Utopia"}}, services.Invalid, "Utopia"},
		{"nobody, which is not everybody", whole, Request{Kind: "fail-call", Target: "license", Params: map[string]string{"members": "|"}}, services.Invalid, "members"},
		{"what has no cache", whole, Request{Kind: "cache-flush", Target: "us-east/a/play/1"}, services.Invalid, "nothing of us-east/a/play/1"},
		{"the only region's only store", alone(t), Request{Kind: "kill", Target: "sql"}, services.Conflict, "1 of 1 regions has a sql, 1 is needed, 1 − 1 = 0 would be left"},
		{"a real store's sockets", onBoxes, Request{Kind: "pause", Target: "us-east/a/kafka/1"}, services.Invalid, "real store"},
		{"what the runtime has not", onBoxes, Request{Kind: "cpu-hog", Target: "us-east"}, services.Invalid, "containers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := plan(c.v, c.r)
			if err == nil || services.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (%s), want %s that says %q", err, services.KindOf(err), c.kind, c.says)
			}
		})
	}
	if f, _, err := Plan("f-1", Request{Kind: "store-down", Target: "us-east/b/evcache/2"}, whole); err != nil || f.Params["store"] != "evcache" {
		t.Errorf("a node of the cache: %v, %v", f.Params, err)
	}
	for _, r := range []Request{
		{Kind: "store-down", Target: "us-east", Force: true}, {Kind: "fail-call", Target: "LICENSE/issue"}, {Kind: "slow-call", Target: "/play/start"},
		{Kind: "fail-call", Target: "/"}, {Kind: "partition", Target: "us-east/b"}, {Kind: "partition", Target: "gateway", To: "license"},
	} {
		if err := plan(whole, r); err != nil {
			t.Errorf("%s on %s: %v", r.Kind, r.Target, err)
		}
	}
	lapsed := active(whole, Request{Kind: "kill", Target: "us-east/a/play/1"})
	lapsed.Active = nil // the lab leaves out what is over
	if err := plan(lapsed, Request{Kind: "kill", Target: "us-east/a/play/1"}); err != nil {
		t.Error(err)
	}
}

func TestBlast(t *testing.T) {
	_, b, err := Plan("f-1", Request{Kind: "kill", Target: "us-east/b"}, planet(t))
	if err != nil {
		t.Fatal(err)
	}
	k := slices.IndexFunc(b.Roles, func(r RoleLeft) bool { return r.Role == "play" })
	if k < 0 || b.Roles[k] != (RoleLeft{Region: "us-east", Role: "play", Of: 2, Now: 2, Left: 1}) || !slices.Equal(b.Regions, []string{"us-east"}) {
		t.Errorf("blast %+v", b)
	}
}

func TestMonkey(t *testing.T) {
	v, from := planet(t), time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	m := Monkey{Seed: 3, Mean: 10 * time.Minute, Only: []string{"play", "gateway"}, Except: []string{"us-east"}, From: 9 * time.Hour, To: 15 * time.Hour}
	one, err := m.Schedule(v, from, 12*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := m.Schedule(v, from, 12*time.Hour)
	if !slices.Equal(one, again) {
		t.Error("the same seed gives another schedule")
	}
	m.Seed = 4
	if other, _ := m.Schedule(v, from, 12*time.Hour); slices.Equal(one, other) {
		t.Error("another seed gives the same schedule")
	}
	// Four groups, six hours, one kill each ten minutes: 144 on average, with a
	// standard deviation of 12.
	if n := len(one); n < 144-60 || n > 144+60 {
		t.Errorf("%d kills", n)
	}
	for _, k := range one {
		if h := k.At.Hour(); h < 9 || h >= 15 || strings.HasPrefix(k.Instance, "us-east") || !strings.Contains(k.Instance, "/play/") && !strings.Contains(k.Instance, "/gateway/") {
			t.Errorf("it kills %s at %s", k.Instance, k.At)
		}
	}
	m.Weekdays = true
	if kills, err := m.Schedule(v, time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC), 40*time.Hour); err != nil || len(kills) != 0 {
		t.Errorf("on a weekend it kills %d (%v)", len(kills), err)
	}
	if _, err := (Monkey{Mean: time.Minute, Only: []string{"lunch"}}).Schedule(v, from, time.Hour); services.KindOf(err) != services.NotFound {
		t.Errorf("unknown target: %v", err)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("kill", "us-east/a/play/1", "", "delay", "1s")
	f.Add("latency", "us-east", "isp:us-west-isp-1", "delay", "-1s")
	f.Add("fail-call", "/play/start", "", "clients", "198.18.0.0/16|::1")
	f.Add("bandwidth", "service:play@us-east", "us-east/a", "rate", "1Mbit")
	v := planet(f)
	f.Fuzz(func(t *testing.T, kind, target, to, name, value string) {
		fault, _, err := Plan("f-1", Request{Kind: kind, Target: target, To: to, Params: map[string]string{name: value}}, v)
		if err == nil && fault.Kind != kind {
			t.Errorf("a plan of %q is one of %q", kind, fault.Kind)
		}
	})
}
