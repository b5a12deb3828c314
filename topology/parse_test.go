package topology

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// equal compares topologies; an absent list equals an empty one.
func equal(a, b Topology) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y }))
}

func parse(t testing.TB, yaml string) Topology {
	t.Helper()
	v, err := Parse(strings.NewReader(yaml), "t.yaml")
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, yaml)
	}
	return v
}

func TestPresetsAreValidAndRoundTrip(t *testing.T) {
	for n := 1; n <= MaxPresetRegions; n++ {
		p, err := Preset(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("preset of %d: %v", n, err)
		}
		b, err := p.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if d := equal(p, parse(t, string(b))); d != "" {
			t.Errorf("preset of %d changes on its way through YAML:\n%s", n, d)
		}
		if n == 1 {
			continue
		}
		smaller, err := Preset(n - 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := equal(Topology{Regions: smaller.Regions}, Topology{Regions: p.Regions[:n-1]}); d != "" {
			t.Errorf("preset of %d changes the regions of the smaller one:\n%s", n, d)
		}
	}
	for _, n := range []int{-1, 0, 7} {
		if _, err := Preset(n); err == nil {
			t.Errorf("preset of %d: no error", n)
		}
	}
}

func TestShortForms(t *testing.T) {
	preset, err := Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	names := parse(t, "regions: [us-east, us-west, eu-west]")
	if d := equal(Topology{Timing: preset.Timing, Regions: preset.Regions}, names); d != "" {
		t.Errorf("bare names differ from the preset:\n%s", d)
	}
	got := parse(t, `
name: small
timing:
  dns_ttl: 5s
  preset: production
regions:
- name: mars
  country: US
  zones: [x]
  services: {gateway: 3, transcode: 0}
  exchange: {appliances: 1}
  isps:
  - olympus
  - name: tharsis
    asn: 64512
    country: CA
    prefixes: [198.18.0.0/20, "2001:db8:ffff::/48"]
    appliances:
    - {capacity: 500MB, bandwidth: 20M, fill_bandwidth: 1Gbit}
    - {}
- {name: venus, country: GB, isps: 3, exchange: venus-hub}
links: [{between: [venus, mars], rtt: 400ms, bandwidth: 100Mbit}]
`)
	timing := ProductionTiming()
	timing.DNSTTL = Duration(5 * time.Second)
	if got.Timing != timing {
		t.Errorf("timing %+v, want production with a DNS TTL of 5 s", got.Timing)
	}
	mars, venus := got.Regions[0], got.Regions[1]
	if mars.Exchange.Name != "mars-ix" || len(mars.Exchange.Appliances) != 1 || len(mars.Zones) != 1 {
		t.Errorf("mars: %+v", mars)
	}
	if i := mars.ISPs[0]; i.Name != "olympus" || i.Country != "US" || i.ASN == 64512 || len(i.Appliances) != 2 || i.Prefixes[0].Overlaps(netip.MustParsePrefix("198.18.0.0/20")) {
		t.Errorf("olympus: %+v", i)
	}
	if a := mars.ISPs[1].Appliances; a[0] != (Appliance{Capacity: 500e6, Bandwidth: 20e6, FillBandwidth: 1e9}) || a[1] != ispAppliance() {
		t.Errorf("tharsis: %+v", a)
	}
	if venus.Exchange.Name != "venus-hub" || len(venus.Exchange.Appliances) != 2 || len(venus.ISPs) != 3 || venus.ISPs[2].Name != "venus-isp-3" {
		t.Errorf("venus: %+v", venus)
	}
	if got.RTT("mars", "venus").D() != 400*time.Millisecond {
		t.Errorf("rtt %s", got.RTT("mars", "venus"))
	}
	counts := map[Role]int{}
	for _, i := range got.Instances() {
		if i.Region == "mars" {
			counts[i.Role]++
		}
	}
	if counts[RoleGateway] != 3 || counts[RoleTranscode] != 0 || counts[RoleOCA] != 5 {
		t.Errorf("mars compiles to %v", counts)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	got := parse(t, `
regions:
- &base {name: us-east, zones: [a, b, c], services: {gateway: 4}, isps: 1}
- {<<: *base, name: us-west}
- {<<: [{name: eu-west, zones: [z]}, *base]}
`)
	for i, want := range []struct {
		name  string
		zones int
	}{{"us-east", 3}, {"us-west", 3}, {"eu-west", 1}} {
		if r := got.Regions[i]; r.Name != want.name || len(r.Zones) != want.zones || r.Services[RoleGateway] != 4 {
			t.Errorf("region %d: %+v", i, r)
		}
	}
}

func TestLargestTopologyGetsPrefixes(t *testing.T) {
	var b strings.Builder
	b.WriteString("regions:\n")
	for i := range MaxRegions {
		fmt.Fprintf(&b, "- {name: r%d, country: US, isps: %d}\n", i, MaxISPs)
	}
	got := parse(t, b.String())
	if n := len(got.Regions[MaxRegions-1].ISPs); n != MaxISPs {
		t.Errorf("%d ISPs", n)
	}
}

// TestProblems lists what can be wrong: each case is a file and its problems,
// one expected line each.
func TestProblems(t *testing.T) {
	const ok = "regions: [us-east, eu-west]\n"
	for _, c := range []struct {
		name, yaml string
		want       []string
	}{
		{"nothing", "", []string{`t.yaml: the file declares nothing: begin with regions`}},
		{"only a comment", "# planet\n", []string{`t.yaml: the file declares nothing`}},
		{"not YAML", "regions: [us-east\nlinks: ]\n", []string{`t.yaml:1: is not YAML: `}},
		{"two documents", ok + "---\nname: x\n", []string{`a second document begins here`}},
		{"no regions", "name: x\n", []string{`regions: has no region: declare at least one`}},
		{"empty regions", "regions: []\n", []string{`t.yaml:1: regions: has no region`}},
		{"root is a list", "- us-east\n", []string{`t.yaml:1: is a list where a mapping is expected`, `has no region`}},
		{"regions is text", "regions: us-east\n", []string{`t.yaml:1: regions: "us-east" is text where a list is expected: write a list of regions`}},
		{"too many regions", "regions: [" + strings.Repeat("x, ", 17) + "]\n", []string{`regions: "17" is too many: write at most 16`}},
		{"unknown field, near", "regoins: [us-east]\n", []string{`t.yaml:1: regoins: "regoins" is not a field here: did you mean "regions"?`, `has no region`}},
		{"unknown field, far", ok + "colour: red\n", []string{`t.yaml:2: colour: "colour" is not a field here: use one of bgp, containers, links, name, regions, timing`}},
		{"field twice", "name: a\nname: b\n" + ok, []string{`t.yaml:2: name: "name" is written twice`}},
		{"region without name", "regions:\n- country: US\n", []string{`t.yaml:2: regions[0].name: is missing: write a DNS label`}},
		{"region without country", "regions:\n- name: mars\n", []string{`t.yaml:2: regions[0].country: is missing: write the two capital letters`}},
		{"country in small letters", "regions:\n- name: mars\n  country: us\n", []string{`t.yaml:3: regions[0].country: "us" is not a country code`}},
		{"name with capitals", "regions:\n- us-east\n- EU\n", []string{`t.yaml:3: regions[1].name: "EU" is not a DNS label`, `regions[1].country: is missing`}},
		{"name too long", "regions: [{name: " + strings.Repeat("x", 41) + ", country: US, exchange: ix, isps: []}]\n", []string{`has 41 characters: use at most 40`}},
		{"reserved name", "regions: [{name: oc, country: US}]\n", []string{`"oc" is the name of the appliances' own fault domain`}},
		{"region twice", "regions:\n- us-east\n- {name: us-east, exchange: x, isps: []}\n", []string{`t.yaml:3: regions[1].name: "us-east" is already the name of regions[0]`}},
		{"no zones", "regions: [{name: us-east, zones: []}]\n", []string{`regions[0].zones: has no zone`}},
		{"zones twice", "regions: [{name: us-east, zones: [a, a]}]\n", []string{`regions[0].zones[1]: "a" is declared twice`}},
		{"zone badly named", "regions: [{name: us-east, zones: [a, B_]}]\n", []string{`regions[0].zones[1]: "B_" is not a DNS label`}},
		{"too many zones", "regions: [{name: us-east, zones: [a,b,c,d,e,f,g,h,i]}]\n", []string{`regions[0].zones: "9" is too many: write at most 8`}},
		{"unknown role", "regions:\n- name: us-east\n  services:\n    gatway: 2\n", []string{`t.yaml:4: regions[0].services.gatway: "gatway" is not a field here: did you mean "gateway"?`}},
		{"appliances as a role", "regions: [{name: us-east, services: {oca: 2}}]\n", []string{`services.oca: "2" is not counted here: declare appliances at an exchange or an ISP`}},
		{"negative count", "regions: [{name: us-east, services: {gateway: -1}}]\n", []string{`services.gateway: "-1" is negative`}},
		{"too many instances", "regions: [{name: us-east, services: {gateway: 33}}]\n", []string{`services.gateway: "33" is too many instances: write at most 32`}},
		{"two stores", "regions: [{name: us-east, services: {sql: 2}}]\n", []string{`services.sql: "2" is too many instances: write at most 1`}},
		{"four kv nodes", "regions: [{name: us-east, services: {kv: 4}}]\n", []string{`services.kv: "4" is too many instances: write at most 3`}},
		{"wrong containers", "regions: [us-east]\ncontainers: {profile: huge, pack: all, images: {redis: x}}\n", []string{`containers.images.redis: "redis" is not a field here`, `containers.profile: "huge" is not a profile`, `containers.pack: "all" is not a way to pack`}},
		{"required role removed", "regions: [{name: us-east, services: {gateway: 0}}]\n", []string{`services.gateway: "0" would leave the region without`}},
		{"count is text", "regions: [{name: us-east, services: {gateway: many}}]\n", []string{`services.gateway: "many" is text where a whole number is expected`}},
		{"count is a fraction", "regions: [{name: us-east, services: {gateway: 1.5}}]\n", []string{`services.gateway: "1.5" is a number where a whole number is expected`}},
		{"site name twice", "regions: [{name: us-east, isps: [x, x]}]\n", []string{`regions[0].isps[1].name: "x" is already the name of regions[0].isps[0]`}},
		{"exchange named as an ISP elsewhere", "regions: [{name: us-east, exchange: x}, {name: eu-west, isps: [x]}]\n", []string{`regions[1].isps[0].name: "x" is already the name of regions[0].exchange`}},
		{"too many appliances", "regions: [{name: us-east, exchange: {appliances: 65}}]\n", []string{`exchange.appliances: "65" is outside 0 to 64`}},
		{"appliances negative", "regions: [{name: us-east, exchange: {appliances: -1}}]\n", []string{`exchange.appliances: "-1" is outside 0 to 64`}},
		{"capacity is no size", "regions: [{name: us-east, exchange: {appliances: [{capacity: big}]}}]\n", []string{`exchange.appliances[0].capacity: "big" is not a size: write it like 4GiB`}},
		{"capacity too small", "regions: [{name: us-east, exchange: {appliances: [{capacity: 1kB}]}}]\n", []string{`exchange.appliances[0].capacity: "1kB" is outside 1MiB to 1024TiB`}},
		{"no bandwidth", "regions: [{name: us-east, exchange: {appliances: [{bandwidth: 0}]}}]\n", []string{`exchange.appliances[0].bandwidth: "0bit" is outside`}},
		{"asn zero", "regions: [{name: us-east, isps: [{asn: 0}]}]\n", []string{`isps[0].asn: "0" is outside 1 to 4294967295`}},
		{"no prefix", "regions: [{name: us-east, isps: [{prefixes: []}]}]\n", []string{`isps[0].prefixes: has no prefix`}},
		{"bad prefix", "regions: [{name: us-east, isps: [{prefixes: [198.18.0.0]}]}]\n", []string{`isps[0].prefixes[0]: "198.18.0.0" is not a prefix: write it like`}},
		{"host bits", "regions: [{name: us-east, isps: [{prefixes: [198.18.1.0/20]}]}]\n", []string{`"198.18.1.0/20" has bits set beyond its length: write 198.18.0.0/20`}},
		{"real addresses", "regions: [{name: us-east, isps: [{prefixes: [10.0.0.0/8]}]}]\n", []string{`"10.0.0.0/8" is outside the lab's client addresses: choose one inside 198.18.0.0/15 or 2001:db8::/32`}},
		{"wider than the block", "regions: [{name: us-east, isps: [{prefixes: [198.16.0.0/12]}]}]\n", []string{`"198.16.0.0/12" is outside the lab's client addresses`}},
		{"overlap between regions", "regions:\n- {name: us-east, isps: [{prefixes: [198.18.0.0/20]}]}\n- {name: eu-west, isps: [{prefixes: [198.18.8.0/24]}]}\n", []string{`t.yaml:3: regions[1].isps[0].prefixes[0]: "198.18.8.0/24" overlaps 198.18.0.0/20 of regions[0].isps[0].prefixes[0]`}},
		{"link to nowhere", ok + "links: [{between: [us-east, eu-wset], rtt: 1ms}]\n", []string{`t.yaml:2: links[0].between[1]: "eu-wset" is not a region of this topology: did you mean "eu-west"?`}},
		{"link to itself", ok + "links: [{between: [us-east, us-east], rtt: 1ms}]\n", []string{`links[0].between: "us-east" is linked to itself`}},
		{"link twice", ok + "links:\n- {between: [us-east, eu-west], rtt: 1ms}\n- {between: [eu-west, us-east], rtt: 2ms}\n", []string{`t.yaml:4: links[1].between: "eu-west, us-east" are already joined by links[0]`}},
		{"link of one", ok + "links: [{between: [us-east], rtt: 1ms}]\n", []string{`links[0].between: does not name two regions`}},
		{"link of three", ok + "links: [{between: [us-east, eu-west, x], rtt: 1ms}]\n", []string{`links[0].between: "3" is too many: write at most 2`}},
		{"link without rtt", ok + "links: [{between: [us-east, eu-west]}]\n", []string{`links[0].rtt: is missing: write rtt: 62ms`}},
		{"rtt without unit", ok + "links: [{between: [us-east, eu-west], rtt: 62}]\n", []string{`links[0].rtt: "62" is not a duration: write it like 62ms`}},
		{"rtt negative", ok + "links: [{between: [us-east, eu-west], rtt: -62ms}]\n", []string{`links[0].rtt: "-62ms" is negative`}},
		{"rtt too long", ok + "links: [{between: [us-east, eu-west], rtt: 11s}]\n", []string{`links[0].rtt: "11s" is outside 0s to 10s`}},
		{"unknown timing preset", ok + "timing: fast\n", []string{`timing: "fast" is not a timing preset: write lab or production`}},
		{"unknown interval", ok + "timing: {dns_tll: 2s}\n", []string{`timing.dns_tll: "dns_tll" is not a field here: did you mean "dns_ttl"?`}},
		{"interval zero", ok + "timing: {dns_ttl: 0s}\n", []string{`timing.dns_ttl: "0s" is not above 0s`}},
		{"lease shorter than renewal", ok + "timing: {lease_duration: 500ms}\n", []string{`timing.lease_duration: "500ms" is not longer than lease_renewal, 1s`}},
		{"waits shrink", ok + "timing: {retry_wait: 10s}\n", []string{`timing.retry_wait_max: "2s" is shorter than retry_wait, 10s`}},
		{"stalls between two looks", ok + "timing: {fetch_watch: 3s}\n", []string{`timing.stall_timeout: "1.5s" is not longer than fetch_watch, 3s`}},
		{"reports expire before they come", ok + "timing: {health_report: 10s}\n", []string{`timing.report_expiry: "4s" is not longer than health_report, 10s`}},
		{"window opens on another day", ok + "timing: {fill_window_start: 25h}\n", []string{`timing.fill_window_start: "25h0m0s" is not a time of day`}},
		{"merge of a scalar", "regions: [{<<: 3, name: us-east}]\n", []string{`regions[0].<<: "3" is not a mapping`}},
		{"several at once", "name: X\nregions:\n- name: us-east\n  zones: [a, a]\n  services: {gatway: 1, dns: 0}\nlinks:\n- between: [us-east, mars]\n", []string{
			`t.yaml:1: name: "X" is not a DNS label`,
			`t.yaml:4: regions[0].zones[1]: "a" is declared twice`,
			`t.yaml:5: regions[0].services.gatway: "gatway" is not a field here`,
			`t.yaml:5: regions[0].services.dns: "0" would leave`,
			`t.yaml:7: links[0].rtt: is missing`,
			`t.yaml:7: links[0].between[1]: "mars" is not a region`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(strings.NewReader(c.yaml), "t.yaml")
			var problems ParseErrors
			if !errors.As(err, &problems) {
				t.Fatalf("error %v, want ParseErrors", err)
			}
			for i, want := range c.want {
				if i >= len(problems) || !strings.Contains(problems[i].Error(), want) {
					t.Errorf("problem %d: want %s", i, want)
				}
			}
			for i, p := range problems {
				if p.Remedy == "" || p.Problem == "" {
					t.Errorf("problem %d has no remedy: %+v", i, p)
				}
			}
			if len(problems) != len(c.want) || t.Failed() {
				t.Errorf("got %d problems, want %d:\n%v", len(problems), len(c.want), err)
			}
			var one *ParseError
			if !errors.As(err, &one) || one != problems[0] {
				t.Error("errors.As does not find the first problem")
			}
		})
	}
}

func TestHostileFiles(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 {<<: {name: x}}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d {<<: [*a%d, *a%d, *a%d]}\n", i, i, i-1, i-1, i-1)
	}
	bomb.WriteString("regions: [{<<: *a29}]\n")
	for name, file := range map[string]string{
		"alias bomb": bomb.String(),
		"cycle":      "regions: &r [{<<: *r}]\n",
		"deep":       strings.Repeat("[", 9000),
		"large":      "# " + strings.Repeat("x", maxFile) + "\nregions: [us-east]\n",
	} {
		// What would blow up is refused before it is read on: a bomb that went off
		// would outlast every test's time.
		_, err := Parse(strings.NewReader(file), "t.yaml")
		var problems ParseErrors
		if !errors.As(err, &problems) || len(problems) > 100 {
			t.Errorf("%s: %d problems, want a few", name, len(problems))
		}
	}
}

func TestValidateNamesFieldsWithoutAFile(t *testing.T) {
	p, err := Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	p.Regions[1].ISPs[0].Prefixes = p.Regions[0].ISPs[0].Prefixes[:1]
	p.Regions[0].Services = map[Role]int{"gatway": 1}
	err = p.Validate()
	for _, want := range []string{"regions[1].isps[0].prefixes[0]: \"198.18.0.0/20\" overlaps", "regions[0].services.gatway: is not a role: did you mean \"gateway\"?"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if err := (Topology{}).Validate(); err == nil {
		t.Error("the zero value is valid")
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"testdata", filepath.Join("..", "fixtures", "topologies")} {
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	for _, s := range []string{"", "regions: [us-east]", "regions: &a [*a]", "<<: 1", "timing: {preset: lab, dns_ttl: 1s}", "regions: [{<<: &x {name: q, country: US}, isps: 8}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(strings.NewReader(string(b)), "f")
		if err != nil {
			var problems ParseErrors
			if !errors.As(err, &problems) {
				t.Fatalf("%T is not ParseErrors", err)
			}
			return
		}
		if err := v.Validate(); err != nil {
			t.Fatalf("parsed, but %v", err)
		}
		out, err := v.YAML()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(strings.NewReader(string(out)), "f")
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, out)
		}
		if d := equal(v, back); d != "" {
			t.Fatalf("changes on its way through YAML:\n%s", d)
		}
		v.Instances()
	})
}
