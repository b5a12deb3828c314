package player

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func TestPlaceOf(t *testing.T) {
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name             string
		o                Options
		isp, home, ip    string
		reason, mentions string
	}{
		{name: "default", isp: "us-east-isp-1", home: "us-east"},
		{name: "by region", o: Options{Region: "eu-west"}, isp: "eu-west-isp-1", home: "eu-west"},
		{name: "by country", o: Options{Country: "gb"}, isp: "eu-west-isp-1", home: "eu-west"},
		{name: "by ISP", o: Options{ISP: "us-west-isp-2"}, isp: "us-west-isp-2", home: "us-west"},
		{name: "by address", o: Options{IP: netip.MustParseAddr("198.18.64.9")}, isp: "us-west-isp-1", home: "us-west", ip: "198.18.64.9"},
		{name: "by IPv6 address", o: Options{IP: netip.MustParseAddr("2001:db8:1::9")}, isp: "us-east-isp-2", home: "us-east", ip: "2001:db8:1::9"},
		{name: "ISP of one region, living near another", o: Options{ISP: "us-east-isp-1", Region: "eu-west"}, isp: "us-east-isp-1", home: "eu-west"},
		{name: "unknown ISP", o: Options{ISP: "nowhere"}, reason: services.ReasonUnknownISP, mentions: "eu-west-isp-2"},
		{name: "foreign address", o: Options{IP: netip.MustParseAddr("192.0.2.1")}, isp: abroad, home: "us-east", ip: "192.0.2.1"},
		{name: "foreign IPv6 address", o: Options{IP: netip.MustParseAddr("2606:4700::1111"), Region: "eu-west"}, isp: abroad, home: "eu-west", ip: "2606:4700::1111"},
		{name: "foreign address of an ISP", o: Options{IP: netip.MustParseAddr("192.0.2.1"), ISP: "us-east-isp-1"}, reason: services.ReasonUnknownISP, mentions: "us-east-isp-1"},
		{name: "foreign address and another country", o: Options{IP: netip.MustParseAddr("192.0.2.1"), Country: "FR"}, reason: "unknown_country"},
		{name: "no host's address", o: Options{IP: netip.MustParseAddr("0.0.0.0")}, reason: "client_address", mentions: "by transit"},
		{name: "this machine's address", o: Options{IP: netip.MustParseAddr("::ffff:127.0.0.1")}, reason: "client_address"},
		{name: "address with a zone", o: Options{IP: netip.MustParseAddr("2001:db8::1%eth0")}, reason: "client_address"},
		{name: "address of another ISP", o: Options{IP: netip.MustParseAddr("198.18.64.9"), ISP: "us-east-isp-1"}, reason: services.ReasonUnknownISP},
		{name: "unknown region", o: Options{Region: "mars"}, reason: "unknown_region", mentions: "us-west"},
		{name: "unknown country", o: Options{Country: "Deutschland"}, reason: "unknown_country", mentions: "GB, US"},
		{name: "country of another ISP", o: Options{ISP: topo.Regions[0].ISPs[0].Name, Country: "GB"}, reason: "unknown_country", mentions: "of that country"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := placeOf(topo, tc.o)
			if services.ReasonOf(err) != tc.reason || (tc.reason == "") != (err == nil) {
				t.Fatalf("got %v, want reason %q", err, tc.reason)
			}
			if err != nil {
				if remedy := services.ProblemOf(err).Remedy; !strings.Contains(remedy, tc.mentions) {
					t.Errorf("the remedy %q does not mention %s", remedy, tc.mentions)
				}
				return
			}
			if p.isp.Name != tc.isp || p.home != tc.home || (tc.ip != "" && p.ip.String() != tc.ip) {
				t.Errorf("got %s of %s near %s", p.ip, p.isp.Name, p.home)
			}
			if isp, _, ok := topo.Locate(p.ip); ok != (tc.isp != abroad) || ok && isp.Name != tc.isp {
				t.Errorf("%s is not inside %s", p.ip, tc.isp)
			}
		})
	}
}

func TestPickAddrIsDeterministicAndInside(t *testing.T) {
	for _, c := range []struct {
		prefix, last string
		many         int
	}{
		{"198.18.16.0/28", "198.18.16.15", 14}, {"2001:db8:5::/124", "2001:db8:5::f", 14}, {"2001:db8:5::/48", "", 200},
		{"198.18.16.7/32", "", 1}, {"198.18.16.6/31", "", 1}, {"2001:db8::7/128", "", 1},
	} {
		p := netip.MustParsePrefix(c.prefix)
		seen := map[netip.Addr]bool{}
		for seed := range uint64(200) {
			a := pickAddr(p, seed)
			if a != pickAddr(p, seed) || !p.Contains(a) || c.many > 1 && a == p.Addr() || a.String() == c.last {
				t.Fatalf("%s: seed %d gives %s", p, seed, a)
			}
			seen[a] = true
		}
		if len(seen) != c.many {
			t.Errorf("%s: 200 seeds give %d addresses of %d", p, len(seen), c.many)
		}
	}
}

// Clients of an ISP that has IPv6 alone have such addresses.
func TestISPWithoutIPv4(t *testing.T) {
	topo, err := topology.Preset(1)
	if err != nil {
		t.Fatal(err)
	}
	topo.Regions[0].ISPs[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("2001:db8:5::/48")}
	p, err := placeOf(topo, Options{Seed: 3})
	if err != nil || !topo.Regions[0].ISPs[0].Prefixes[0].Contains(p.ip) || p.isp.Name != topo.Regions[0].ISPs[0].Name {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestPlayout(t *testing.T) {
	t0 := time.Unix(1000, 0)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	p := playout{speed: 2}
	p.advance(at(5)) // before the start nothing moves
	p.add(4*time.Second, at(10))
	p.advance(at(11))
	if p.pos != 2*time.Second || p.buffer() != 2*time.Second || p.state() != "playing" {
		t.Fatalf("after 1 s at double speed: %+v", p)
	}
	p.advance(at(15)) // ran dry at 12
	if !p.dry || p.rebuffers != 1 || p.stalled != 3*time.Second || p.state() != "stalled" {
		t.Fatalf("dry: %+v", p)
	}
	p.add(4*time.Second, at(16))
	if p.dry || p.stalled != 4*time.Second {
		t.Fatalf("filled again: %+v", p)
	}
	p.complete = true
	p.advance(at(20))
	if p.pos != 8*time.Second || p.rebuffers != 1 || p.state() != "ended" || p.playing != 4*time.Second {
		t.Errorf("the end is no stall: %+v", p)
	}
	if got := p.rebufferRatio(); got != 0.5 {
		t.Errorf("ratio %g, want 0.5", got)
	}
}

func TestPick(t *testing.T) {
	now := time.Unix(1000, 0)
	good, other := &source{}, &source{}
	all := []*source{good, other}
	if pick(all, nil, false, now) != good {
		t.Error("the best is not first")
	}
	good.until = now.Add(time.Second)
	if pick(all, good, false, now) != other {
		t.Error("a penalised source is used")
	}
	later := now.Add(2 * time.Second)
	if pick(all, other, false, later) != other {
		t.Error("a thin buffer is risked to return to a better source")
	}
	if pick(all, other, true, later) != good {
		t.Error("a better source is never returned to")
	}
	good.excluded, other.until = true, later.Add(time.Second)
	if pick(all, other, true, later) != nil {
		t.Error("a source that is out is used")
	}
}

func TestCMCD(t *testing.T) {
	h := http.Header{}
	cmcd{session: "s1", title: "tt", object: "v", kbps: 400, topKbps: 900, duration: 2 * time.Second, buffer: 3449 * time.Millisecond,
		startup: true, starved: true, throughput: 1234, speed: 10, following: "10-19"}.set(h)
	for name, want := range map[string]string{
		"CMCD-Object": "br=400,d=2000,ot=v,tb=900", "CMCD-Request": `bl=3400,dl=300,mtp=1200,nrr="10-19",su`,
		"CMCD-Session": `cid="tt",pr=10.00,sf=o,sid="s1",st=v`, "CMCD-Status": "bs,rtp=20000",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	h = http.Header{}
	cmcd{session: "s1", title: "tt", object: "m", speed: 1}.set(h)
	if h.Get("CMCD-Status") != "" || h.Get("CMCD-Request") != "" || h.Get("CMCD-Object") != "ot=m" {
		t.Errorf("what is not known is sent: %v", h)
	}
}

func TestLinkSharesItsRate(t *testing.T) {
	l := newLink(8000) // 1000 bytes per second
	now := time.Unix(1000, 0)
	if wait := l.take(20, now); wait != 0 {
		t.Errorf("a burst waits %v", wait)
	}
	if wait := l.take(1000, now); wait != time.Second {
		t.Errorf("1000 bytes wait %v, want 1s", wait)
	}
	if wait := l.take(500, now.Add(time.Second)); wait != 500*time.Millisecond {
		t.Errorf("500 more wait %v, want 500ms", wait)
	}
	if newLink(0) != nil || (*link)(nil).waited() != 0 {
		t.Error("no cap is a link")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Title: "x"}, {Title: "x", Token: "t", Speed: -1}, {Title: "x", Token: "t", Seconds: -1}, {Title: "x", Token: "t", Bandwidth: -1}, {Title: "x", Token: "t", ABR: "best"}} {
		if err := o.withDefaults().validate(); services.KindOf(err) != services.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
