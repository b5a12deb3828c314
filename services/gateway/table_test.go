package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

func TestRouteConditions(t *testing.T) {
	past, future := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	all, none := 100.0, 0.0
	for name, tt := range map[string]struct {
		route Route
		want  bool
	}{
		"host":             {Route{Hosts: []string{"api.flix.test"}}, true},
		"other host":       {Route{Hosts: []string{"www.flix.test"}}, false},
		"hosts below":      {Route{Hosts: []string{"*.FLIX.test"}}, true},
		"not itself below": {Route{Hosts: []string{"*.api.flix.test"}}, false},
		"method":           {Route{Methods: []string{"get", "post"}}, true},
		"other method":     {Route{Methods: []string{"GET"}}, false},
		"header":           {Route{Headers: map[string]string{"x-beta": "yes"}}, true},
		"any header":       {Route{Headers: map[string]string{"X-Beta": "*"}}, true},
		"other value":      {Route{Headers: map[string]string{"X-Beta": "no"}}, false},
		"no header":        {Route{Headers: map[string]string{"X-None": "*"}}, false},
		"country":          {Route{Countries: []string{"us"}}, true},
		"other country":    {Route{Countries: []string{"CA"}}, false},
		"device":           {Route{Devices: []string{"tv"}}, true},
		"other device":     {Route{Devices: []string{"phone"}}, false},
		"member":           {Route{Members: []string{"m-0", "m-1"}}, true},
		"other member":     {Route{Members: []string{"m-2"}}, false},
		"all":              {Route{Percent: &all}, true},
		"none":             {Route{Percent: &none}, false},
		"when":             {Route{When: "plan == premium"}, true},
		"not when":         {Route{When: "plan == basic"}, false},
		"here":             {Route{In: []string{"us-east"}}, true},
		"elsewhere":        {Route{In: []string{"eu-west"}}, false},
		"not yet over":     {Route{Until: &future}, true},
		"over":             {Route{Until: &past}, false},
		"all of it":        {Route{Hosts: []string{"api.flix.test"}, Methods: []string{"POST"}, Countries: []string{"US"}, When: "device == tv"}, true},
		"all but one":      {Route{Hosts: []string{"api.flix.test"}, Methods: []string{"POST"}, Countries: []string{"CA"}, When: "device == tv"}, false},
	} {
		r := tt.route
		r.Name, r.Prefix, r.VIP = "special", "/play", "special"
		rs := table(t, Route{Name: "plain", Prefix: "/play", VIP: "plain"}, r)
		got := rs.match(viewer().ex, false)
		if got == nil || (got.Name == "special") != tt.want {
			t.Errorf("%s: goes to %+v", name, got)
		}
	}
}

func TestRoutePrecedence(t *testing.T) {
	one := 100.0
	rs := table(t,
		Route{Name: "short", Prefix: "/", VIP: "x"},
		Route{Name: "long", Prefix: "/a/b", VIP: "x"},
		Route{Name: "plain", Prefix: "/a", VIP: "x"},
		Route{Name: "two", Prefix: "/a", VIP: "x", Percent: &one, Methods: []string{"GET"}},
		Route{Name: "one", Prefix: "/a", VIP: "x", Percent: &one},
		Route{Name: "exact", Path: "/a/b/c", VIP: "x"},
		Route{Name: "first", Prefix: "/z", VIP: "x", Priority: -1},
		Route{Name: "urgent", Prefix: "/", VIP: "x", Priority: 1, When: "path ^= /u"},
	)
	for path, want := range map[string]string{"/": "short", "/a": "two", "/a/b": "long", "/a/b/c": "exact", "/a/b/c/d": "long", "/z": "short", "/u/x": "urgent", "/q": "short"} {
		if r := rs.match(get(path), false); r == nil || r.Name != want {
			t.Errorf("%s goes to %+v, want %s", path, r, want)
		}
	}
}

// TestShareIsStickyAndGrows: a viewer has one place in the order of a salt.
func TestShareIsStickyAndGrows(t *testing.T) {
	ask := func(member, device string, addr string) *Exchange {
		ex := get("/play")
		if member != "" {
			ex.Member = &token.Claims{Member: member}
		}
		if device != "" {
			ex.Request.Header.Set(deviceIDHeader, device)
		}
		ex.Client = netip.MustParseAddr(addr)
		return ex
	}
	at := func(percent float64, salt string) func(*Exchange) bool {
		rs := table(t, Route{Name: "plain", Prefix: "/", VIP: "x"}, Route{Name: "test", Prefix: "/", VIP: "y", Percent: &percent, Salt: salt})
		return func(ex *Exchange) bool { return rs.match(ex, false).Name == "test" }
	}
	const n = 4000
	in := make(map[int]bool)
	for _, percent := range []float64{0, 5, 10, 50, 100} {
		is := at(percent, "")
		count := 0
		for k := range n {
			now := is(ask(fmt.Sprint("m-", k), "d", "198.18.0.1"))
			if again := is(ask(fmt.Sprint("m-", k), "other", "198.18.9.9")); again != now {
				t.Fatalf("member %d: %t from another device and address, %t before", k, again, now)
			}
			if in[k] && !now {
				t.Fatalf("at %v %% member %d is out again", percent, k)
			}
			in[k] = now
			if now {
				count++
			}
		}
		if share := float64(count) / n * 100; share < percent-2 || share > percent+2 {
			t.Errorf("%v %% took %v %%", percent, share)
		}
	}
	// Without a member the device decides, without that the address.
	is := at(50, "")
	same, other := 0, 0
	for k := range 400 {
		addr := fmt.Sprintf("198.18.%d.%d", k/200, k%200+1)
		if is(ask("", "d-1", addr)) == is(ask("", "d-1", "198.18.0.1")) {
			same++
		}
		if is(ask("", "", addr)) != is(ask("", "", "198.18.0.1")) {
			other++
		}
	}
	if same != 400 || other < 100 {
		t.Errorf("one device is chosen the same %d times of 400, other addresses otherwise %d times", same, other)
	}
	// Two salts do not choose the same viewers, one salt does.
	a, b, c := at(50, "one"), at(50, "two"), at(50, "one")
	both := 0
	for k := range 2000 {
		ex := ask(fmt.Sprint("m-", k), "", "198.18.0.1")
		if a(ex) != c(ex) {
			t.Fatal("one salt, two choices")
		}
		if a(ex) && b(ex) {
			both++
		}
	}
	if both < 400 || both > 600 {
		t.Errorf("two tests of half of 2000 share %d viewers, want about 500", both)
	}
}

func TestOverlayChangesOnlyTheTarget(t *testing.T) {
	rs := table(t,
		Route{Name: "play", Prefix: "/play", VIP: "play", Member: true, Class: "degraded", Timeout: 5},
		Route{Name: "pin", Overlay: true, Members: []string{"m-1"}, Instance: "us-east/a/play/2"},
		Route{Name: "canary", Overlay: true, Prefix: "/play/v2", Countries: []string{"CA"}, VIP: "play-canary"})
	ex := viewer().ex
	r := rs.match(ex, false)
	if r.Name != "play" || r.VIP != "play" || r.Instance != "us-east/a/play/2" || !r.Member || r.compiled.class != Degraded || r.Timeout != 5 {
		t.Errorf("pinned: %+v", r)
	}
	if rs.match(ex, false) != r {
		t.Error("the same overlay of the same route is made anew for each request")
	}
	ex.Member, ex.Country = nil, "CA"
	if r := rs.match(ex, false); r.VIP != "play-canary" || r.Name != "play" || r.Instance != "" || !r.Member {
		t.Errorf("canary: %+v", r)
	}
	ex.Country = "US"
	if r := rs.match(ex, false); r.VIP != "play" || r.Instance != "" {
		t.Errorf("neither: %+v", r)
	}
	ex.Request.Path = "/nowhere"
	if r := rs.match(ex, false); r != nil {
		t.Errorf("an overlay makes a route where there is none: %+v", r)
	}
}

// Methods that HTTP's own document does not know are methods all the same.
func TestExtensionMethods(t *testing.T) {
	routes, err := CheckRoutes([]Route{{Prefix: "/", VIP: "x", Methods: []string{"purge", "PROPFIND", "M-SEARCH"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := routes[0].Methods; !slices.Equal(got, []string{"PURGE", "PROPFIND", "M-SEARCH"}) {
		t.Errorf("%q", got)
	}
}

func TestBadRoutesSayWhatIsWrong(t *testing.T) {
	lots := 101.0
	nets := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for want, r := range map[string]Route{
		`.name: "a b"`:                     {Name: "a b", Prefix: "/", VIP: "x"},
		`.path: a route has a prefix or`:   {Prefix: "/a", Path: "/b", VIP: "x"},
		`.path: "/a/../b" is not a clean`:  {Path: "/a/../b", VIP: "x"},
		`.prefix: "" is not a clean`:       {VIP: "x"},
		`.hosts: "a_b"`:                    {Prefix: "/", VIP: "x", Hosts: []string{"a_b"}},
		`.hosts: "*"`:                      {Prefix: "/", VIP: "x", Hosts: []string{"*"}},
		`.methods: "GE T" is not a method`: {Prefix: "/", VIP: "x", Methods: []string{"GE T"}},
		`.methods: "" is not a method`:     {Prefix: "/", VIP: "x", Methods: []string{""}},
		`.methods: "connect" opens a tun`:  {Prefix: "/", VIP: "x", Methods: []string{"connect"}},
		`.headers: "a b"`:                  {Prefix: "/", VIP: "x", Headers: map[string]string{"a b": "c"}},
		`.countries: "USA" is not a two`:   {Prefix: "/", VIP: "x", Countries: []string{"USA"}},
		`.devices: "fridge" is not one`:    {Prefix: "/", VIP: "x", Devices: []string{"fridge"}},
		`.members: a member's id is`:       {Prefix: "/", VIP: "x", Members: []string{""}},
		`.percent: 101 is outside`:         {Prefix: "/", VIP: "x", Percent: &lots},
		`.in: "US East" is not the name`:   {Prefix: "/", VIP: "x", In: []string{"US East"}},
		`.when: at character 1`:            {Prefix: "/", VIP: "x", When: "nonsense == 1"},
		`.vip: "Bad VIP" is not the name`:  {Prefix: "/", VIP: "Bad VIP"},
		`.vip: the route has no target`:    {Prefix: "/"},
		`.vip: it is empty: the VIP of`:    {Prefix: "/", Instance: "us-east/a/play/1"},
		`.instance: "a b" is not the id`:   {Prefix: "/", VIP: "x", Instance: "a b"},
		`.instance: another region's`:      {Prefix: "/", VIP: "x", Instance: "i", Region: "us-west"},
		`.region: "US" is not the name`:    {Prefix: "/", Region: "US"},
		`.origins: origin "https://a"`:     {Prefix: "/", Origins: []string{"https://a"}},
		`its host is not an address`:       {Prefix: "/", Origins: []string{"http://evil.example:80"}},
		`more than an address and a port`:  {Prefix: "/", Origins: []string{"http://127.0.0.1:80/path"}},
		`its port is not between`:          {Prefix: "/", Origins: []string{"http://127.0.0.1:0"}},
		`lies outside the declared`:        {Prefix: "/", Origins: []string{"http://192.0.2.1:80"}},
		`has no vip, region or instance`:   {Prefix: "/", Origins: []string{"http://127.0.0.1:80"}, VIP: "x"},
		`.class: class "vital"`:            {Prefix: "/", VIP: "x", Class: "vital"},
		`.limits: rate "5"`:                {Prefix: "/", VIP: "x", Limits: &Limits{Client: "5"}},
		`.timeout: -1ns is below 0`:        {Prefix: "/", VIP: "x", Timeout: -1},
		`would take every request`:         {Overlay: true, VIP: "x"},
	} {
		_, err := CheckRoutes([]Route{{Name: "good", Prefix: "/good", VIP: "good"}, r}, nets)
		if services.KindOf(err) != services.Invalid || !strings.Contains(fmt.Sprint(err), want) || !strings.HasPrefix(err.Error(), "routes[1]") {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if _, err := CheckRoutes([]Route{{Name: "a", Prefix: "/a", VIP: "x"}, {Name: "a", Prefix: "/b", VIP: "x"}}, nil); !strings.Contains(fmt.Sprint(err), `"a" is there twice`) {
		t.Errorf("%v", err)
	}
	rs, err := CheckRoutes([]Route{{Prefix: "/", Origins: []string{"http://localhost:81", "http://127.0.0.2"}}}, nets)
	if err != nil || rs[0].Origins[0] != "http://127.0.0.1:81" || rs[0].Origins[1] != "http://127.0.0.2:80" {
		t.Errorf("%+v, %v", rs, err)
	}
}

func TestBeneath(t *testing.T) {
	now := []Route{{Name: "play", Prefix: "/play", VIP: "play", Member: true}, {Name: "root", Prefix: "/", VIP: "web"},
		{Name: "open", Prefix: "/play/open", VIP: "play"}, {Name: "tv", Prefix: "/play/tv", VIP: "play", Devices: []string{"tv"}}}
	for path, want := range map[string]string{"/play": "play", "/play/x": "play", "/play/open/x": "open", "/play/tv/1": "play", "/other": "root"} {
		if r, ok := Beneath(now, Route{Name: "new", Prefix: path, VIP: "n"}); !ok || r.Name != want {
			t.Errorf("beneath %s lies %+v, want %s", path, r, want)
		}
	}
	if r, ok := Beneath(now[:1], Route{Name: "new", Prefix: "/new", VIP: "play"}); !ok || !r.Member {
		t.Errorf("a second route to a members' API forgets that it is: %+v", r)
	}
	if r, ok := Beneath(now[:1], Route{Name: "new", Prefix: "/new", VIP: "new"}); ok {
		t.Errorf("beneath a new API lies %+v", r)
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	half := 50.0
	rs := table(t, append(DefaultRoutes(), Route{Name: "canary", Prefix: "/play", VIP: "c", Percent: &half, When: "country == CA"},
		Route{Name: "pin", Overlay: true, Members: []string{"m-1"}, Instance: "i"})...)
	ex := viewer().ex
	ex.place = &place{text: "198.18.0.7"}
	if n := testing.AllocsPerRun(100, func() { rs.match(ex, false) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
