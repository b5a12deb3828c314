package gateway

import (
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"": {}, "off": {}, "10/s": {10, 10}, "10/s:50": {10, 50}, "600/m": {10, 10}, "36000/h": {10, 10}, "0.5/s": {0.5, 1}, "1/m:3": {1.0 / 60, 3}, "1e3/s": {1000, 1000},
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
		if r, err := ParseRate(text); err == nil {
			if again, err := ParseRate(r.String()); err != nil || math.Abs(again.PerSecond-r.PerSecond) > 1e-9 || again.Burst != r.Burst {
				t.Errorf("%q printed as %q is read as %+v, %v", text, r, again, err)
			}
		}
	}
	for _, text := range []string{"10", "/s", "x/s", "-1/s", "0/s", "10/d", "10/s:", "10/s:0", "10/s:-1", "10/s:x", "Inf/s", "NaN/s", "1e9/s", "1e-9/s", "10/s:9999999999"} {
		if r, err := ParseRate(text); services.KindOf(err) != services.Invalid {
			t.Errorf("%q is taken as %+v", text, r)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"10/s", "1/m:3", "off", "1e3/h:1", "/", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err == nil && r != (Rate{}) && (!(r.PerSecond > 0 && r.PerSecond <= maxRate) || r.Burst < 1 || r.Burst > maxRate) {
			t.Errorf("%q is taken as %+v", text, r)
		}
	})
}

func TestBuckets(t *testing.T) {
	b := &buckets{seed: maphash.MakeSeed()}
	r := Rate{PerSecond: 10, Burst: 3}
	now := time.Unix(1_800_000_000, 0).UnixNano()
	take := func(key uint64) (time.Duration, bool) { return b.take(key, r, now) }
	for k := range 3 {
		if _, ok := take(7); !ok {
			t.Fatalf("request %d of a burst of 3 is refused", k)
		}
	}
	wait, ok := take(7)
	if ok || wait != 100*time.Millisecond {
		t.Errorf("the fourth: %t, wait %s; want 100ms", ok, wait)
	}
	if _, ok := take(8); !ok {
		t.Error("another key is refused")
	}
	now += int64(99 * time.Millisecond)
	if _, ok := take(7); ok {
		t.Error("taken before its time")
	}
	now += int64(time.Millisecond)
	if _, ok := take(7); !ok {
		t.Error("refused when told to come")
	}
	if _, ok := take(7); ok {
		t.Error("one token, two requests")
	}
	now += int64(time.Hour)
	for k := range 4 {
		if _, ok := take(7); ok != (k < 3) {
			t.Errorf("after an hour request %d: %t; a bucket holds no more than its burst", k, ok)
		}
	}
	// Over a minute a steady client gets the rate.
	got := 0
	for range 60_000 {
		now += int64(time.Millisecond)
		if _, ok := take(99); ok {
			got++
		}
	}
	if got < 600 || got > 604 {
		t.Errorf("%d requests in a minute at 10/s", got)
	}
}

// TestBucketsForgetTheFullest: memory is bounded, and who is being limited is
// forgotten last.
func TestBucketsForgetTheFullest(t *testing.T) {
	b := &buckets{}
	r := Rate{PerSecond: 1, Burst: 5}
	now := time.Unix(1_800_000_000, 0).UnixNano()
	const noisy = 3
	for range 5 {
		b.take(noisy, r, now)
	}
	for k := 1; k <= 100; k++ { // all of the same set
		b.take(noisy+uint64(k)*bucketSets, r, now)
	}
	if _, ok := b.take(noisy, r, now); ok {
		t.Error("a hundred others make a limited client free again")
	}
}

func TestRateLimits(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.api("play", "us-east/a/play/1", echo("play"))
	statuses := func(address, path, member string, n int) string {
		t.Helper()
		c := e.client(address, true)
		var out []string
		for range n {
			var header []string
			if member != "" {
				header = []string{"Authorization", w.member(member)}
			}
			a := ask(t, c, "GET", path, "", header...)
			out = append(out, strconv.Itoa(a.StatusCode))
			if a.StatusCode == 429 {
				if after, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || after < 1 {
					t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
				}
				if p := a.problem(t); p.Reason != ReasonRateLimited || a.Header.Get("X-Flix-Status") != "FAILURE_LOCAL_THROTTLED_RATE" {
					t.Errorf("%+v %v", p, a.Header)
				}
			}
		}
		return strings.Join(out, " ")
	}
	e.set(FilterProperty("rate-limit", "client"), "1/h:2")
	if got := statuses(eastClient, "/signup/plans", "", 4); got != "200 200 429 429" {
		t.Errorf("one client: %s", got)
	}
	if got := statuses(westClient, "/signup/plans", "", 1); got != "200" {
		t.Errorf("another client: %s", got)
	}
	e.set(FilterProperty("rate-limit", "client"), "nonsense") // refused: what holds stays
	if got := statuses(eastClient, "/signup/plans", "", 1); got != "429" {
		t.Errorf("after a bad rate: %s", got)
	}
	e.set(FilterProperty("rate-limit", "client"), "")
	e.set(FilterProperty("rate-limit", "member"), "1/h:1")
	if got := statuses(eastClient, "/play/x", "m-1", 2); got != "200 429" {
		t.Errorf("one member: %s", got)
	}
	if got := statuses(eastClient, "/play/x", "m-2", 1); got != "200" {
		t.Errorf("another member: %s", got)
	}
	e.set(FilterProperty("rate-limit", "member"), "off")
	e.set(PropertyRoutes, `{"version":1,"routes":[{"prefix":"/signup","vip":"signup","limits":{"all":"1/h:2"}},{"prefix":"/play","vip":"play"}]}`)
	if got := statuses(eastClient, "/signup/plans", "", 2) + " " + statuses(westClient, "/signup/plans", "", 1); got != "200 200 429" {
		t.Errorf("one route: %s", got)
	}
	if got := statuses(eastClient, "/play/x", "", 3); got != "200 200 200" {
		t.Errorf("another route: %s", got)
	}
	e.set(FilterProperty("rate-limit", "disable"), "on")
	if got := statuses(eastClient, "/signup/plans", "", 1); got != "200" {
		t.Errorf("switched off: %s", got)
	}
}

// A rate of everybody holds over all routes, one of a route's on it alone; the refusal
// says which it is.
func TestRateOfEverybody(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.api("play", "us-east/a/play/1", echo("play"))
	get := func(address, path, want, refused string) {
		t.Helper()
		a := ask(t, e.client(address, true), "GET", path, "")
		if strconv.Itoa(a.StatusCode) != want {
			t.Fatalf("%s: %d, want %s", path, a.StatusCode, want)
		}
		if refused != "" {
			if p := a.problem(t); !strings.Contains(p.Error, refused) {
				t.Errorf("%s: %q, want %q", path, p.Error, refused)
			}
		}
	}
	e.set(PropertyRoutes, `{"version":1,"routes":[{"prefix":"/signup","vip":"signup","limits":{"all":"1/h:1"}},{"prefix":"/play","vip":"play"}]}`)
	get(eastClient, "/signup/plans", "200", "")
	get(westClient, "/signup/plans", "429", "everybody on this route together may ask")
	e.set(FilterProperty("rate-limit", "all"), "1/h:1")
	get(eastClient, "/play/x", "200", "")
	get(westClient, "/play/x", "429", "everybody together may ask")
	e.set(FilterProperty("rate-limit", "all"), "")
	get(westClient, "/play/x", "200", "")
}

func TestAddressKey(t *testing.T) {
	b := &buckets{seed: maphash.MakeSeed()}
	key := func(s string) uint64 { return b.hashAddress("", netip.MustParseAddr(s)) }
	if key("2001:db8::1") != key("2001:db8::ffff") || key("2001:db8::1") == key("2001:db8:0:1::1") {
		t.Error("a /64 is one client")
	}
	if key("198.18.0.1") == key("198.18.0.2") || key("198.18.0.1") != key("::ffff:198.18.0.1") {
		t.Error("an IPv4 address is one client")
	}
}

func BenchmarkBuckets(b *testing.B) {
	bs := &buckets{seed: maphash.MakeSeed()}
	keys := make([]string, 4096)
	for k := range keys {
		keys[k] = fmt.Sprint("member-", k)
	}
	r := Rate{PerSecond: 1e6, Burst: 1e6}
	b.ReportAllocs()
	for k := 0; b.Loop(); k++ {
		bs.take(bs.hash('m', "", keys[k%len(keys)]), r, int64(k))
	}
}

// With the scope region each of its gateways takes an equal part, and a gateway
// that comes or goes changes that at once.
func TestRatesOfARegionAreDivided(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	for k := range 3 {
		e.registry.add(string(topology.RoleGateway), fmt.Sprintf("us-east/a/gateway/%d", k+1), "a", "127.0.0.1:1")
	}
	allowed := func(address string) int {
		t.Helper()
		c := e.client(address, true)
		for n := range 20 {
			if ask(t, c, "GET", "/signup/plans", "").StatusCode != 200 {
				return n
			}
		}
		return 20
	}
	e.set(FilterProperty("rate-limit", "client"), "1/h:9")
	if n := allowed(eastClient); n != 9 {
		t.Errorf("a gateway's rate lets %d through, want 9", n)
	}
	e.set(FilterProperty("rate-limit", "scope"), "region")
	if n := allowed("198.18.0.8:4000"); n != 3 {
		t.Errorf("a third of the region's rate lets %d through, want 3", n)
	}
	e.set(FilterProperty("rate-limit", "scope"), "planet") // refused
	if n := allowed("198.18.0.9:4000"); n != 3 {
		t.Errorf("after a bad scope %d get through, want 3", n)
	}
	if r := (Rate{PerSecond: 1, Burst: 2}).part(5); r.Burst != 1 || r.PerSecond != 0.2 {
		t.Errorf("%+v", r)
	}
}
