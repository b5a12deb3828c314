package dns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/dns"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what is awaited.
const patience = time.Minute

// edges are the healthy load balancers of a test, by region.
type edges struct {
	mu sync.Mutex
	m  map[string][]dns.Endpoint
}

func (e *edges) zones(region string) []dns.Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.m[region]
}

func (e *edges) set(region string, to ...dns.Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.m[region] = to
}

type fixture struct {
	t     *testing.T
	edges *edges
	tel   *telemetry.Telemetry
	srv   *dns.Server
	udp   string
}

func start(t *testing.T) *fixture {
	t.Helper()
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	pc, l := bind(t)
	f := &fixture{t: t, edges: &edges{m: map[string][]dns.Endpoint{}}, tel: telemetry.Discard(), udp: pc.LocalAddr().String()}
	for i, r := range topo.RegionNames() {
		f.edges.set(r, dns.Endpoint{Host: "127.0.0.1", Port: 4000 + 10*i, Zone: "a"}, dns.Endpoint{Host: "127.0.0.1", Port: 4001 + 10*i, Zone: "b"})
	}
	f.srv, err = dns.New(dns.Deps{UDP: pc, TCP: l, Topology: topo, Zones: f.edges.zones, Region: "us-east", Tel: f.tel, Timing: topology.LabTiming()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if c, err := net.DialTimeout("tcp", l.Addr().String(), patience); err == nil {
			_ = c.Close()
			t.Error("still accepts connections")
		}
	})
	return f
}

// bind takes the same port for UDP and TCP.
func bind(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", addresstest.Host(t)+":0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			return pc, l
		}
		_ = l.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func query(name string, typ uint16, subnet string) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetQuestion(name, typ)
	m.SetEdns0(1232, false)
	if subnet != "" {
		p := netip.MustParsePrefix(subnet)
		family := uint16(1)
		if p.Addr().Is6() {
			family = 2
		}
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &mdns.EDNS0_SUBNET{Code: mdns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()})
	}
	return m
}

func (f *fixture) ask(network string, m *mdns.Msg) *mdns.Msg {
	f.t.Helper()
	c := &mdns.Client{Net: network, Timeout: patience, UDPSize: 4096}
	resp, _, err := c.Exchange(m, f.udp)
	if err != nil {
		f.t.Fatalf("%v: %v", m.Question, err)
	}
	return resp
}

// port is the region's first HTTPS port in the answer to a client.
func (f *fixture) port(subnet string) int {
	f.t.Helper()
	resp := f.ask("udp", query("api.flix.test.", mdns.TypeHTTPS, subnet))
	if resp.Rcode != mdns.RcodeSuccess || len(resp.Answer) == 0 {
		f.t.Fatalf("%s: %v", subnet, resp)
	}
	ports := ports(resp)
	return ports[0]
}

func ports(resp *mdns.Msg) []int {
	var out []int
	for _, rr := range resp.Answer {
		if h, ok := rr.(*mdns.HTTPS); ok {
			for _, v := range h.Value {
				if p, ok := v.(*mdns.SVCBPort); ok {
					out = append(out, int(p.Port))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestNearestRegion(t *testing.T) {
	f := start(t)
	for subnet, want := range map[string]int{
		"198.18.1.0/24": 4000, "198.18.64.0/24": 4010, "198.18.130.0/24": 4020, "2001:db8:200::/56": 4020,
		"203.0.113.0/24": 4000, // unknown: the server's own region
		"":               4000,
	} {
		if got := f.port(subnet); got != want {
			t.Errorf("%q is sent to port %d, want %d", subnet, got, want)
		}
	}
}

func TestRecords(t *testing.T) {
	f := start(t)
	a := f.ask("udp", query("api.flix.test.", mdns.TypeA, "198.18.64.0/24"))
	if len(a.Answer) != 1 || !a.Authoritative || a.RecursionAvailable || a.Answer[0].Header().Ttl != 2 || a.Answer[0].(*mdns.A).A.String() != "127.0.0.1" {
		t.Errorf("A: %v", a)
	}
	h := f.ask("tcp", query("PLAY.flix.test.", mdns.TypeHTTPS, "198.18.64.0/24"))
	if got := ports(h); !slices.Equal(got, []int{4010, 4011}) {
		t.Errorf("HTTPS ports %v: %v", got, h)
	}
	if s := h.Answer[0].String(); !strings.Contains(s, "ipv4hint=\"127.0.0.1\"") || !strings.Contains(s, "alpn=\"h2,http/1.1\"") {
		t.Errorf("HTTPS: %s", s)
	}
	srv := f.ask("udp", query("_https._tcp.api.flix.test.", mdns.TypeSRV, "198.18.64.0/24"))
	if len(srv.Answer) != 2 || len(srv.Extra) != 3 {
		t.Fatalf("SRV: %v", srv)
	}
	target := srv.Answer[0].(*mdns.SRV).Target
	if got := f.ask("udp", query(target, mdns.TypeA, "")); len(got.Answer) != 1 {
		t.Errorf("the target %s has no address: %v", target, got)
	}
	oc := f.ask("udp", query("oca-1-us-east-ix.oc.flix.test.", mdns.TypeA, ""))
	if len(oc.Answer) != 1 || oc.Answer[0].(*mdns.A).A.String() != "127.0.0.1" {
		t.Errorf("appliance: %v", oc)
	}
}

func TestRotation(t *testing.T) {
	f := start(t)
	first := map[uint16]bool{}
	for range 4 {
		resp := f.ask("udp", query("_https._tcp.api.flix.test.", mdns.TypeSRV, ""))
		first[resp.Answer[0].(*mdns.SRV).Port] = true
	}
	if len(first) != 2 {
		t.Errorf("first ports %v, want both zones in turn", first)
	}
}

func TestNegative(t *testing.T) {
	f := start(t)
	for _, c := range []struct {
		name  string
		typ   uint16
		rcode int
		soa   bool
	}{
		{"flix.test.", mdns.TypeA, mdns.RcodeSuccess, true},
		{"flix.test.", mdns.TypeSOA, mdns.RcodeSuccess, false},
		{"flix.test.", mdns.TypeNS, mdns.RcodeSuccess, false},
		{"ns.flix.test.", mdns.TypeA, mdns.RcodeSuccess, false},
		{"api.flix.test.", mdns.TypeMX, mdns.RcodeSuccess, true},
		{"api.flix.test.", mdns.TypeAAAA, mdns.RcodeSuccess, true},
		{"api.flix.test.", mdns.TypeANY, mdns.RcodeSuccess, false},
		{"_tcp.api.flix.test.", mdns.TypeA, mdns.RcodeSuccess, true},
		{"oc.flix.test.", mdns.TypeA, mdns.RcodeSuccess, true},
		{"us-east.elb.flix.test.", mdns.TypeA, mdns.RcodeSuccess, true},
		{"www.flix.test.", mdns.TypeA, mdns.RcodeNameError, true},
		{"x.api.flix.test.", mdns.TypeA, mdns.RcodeNameError, true},
		{"c.us-east.elb.flix.test.", mdns.TypeA, mdns.RcodeNameError, true},
		{"example.com.", mdns.TypeA, mdns.RcodeRefused, false},
		{"notflix.test.", mdns.TypeA, mdns.RcodeRefused, false},
		{".", mdns.TypeNS, mdns.RcodeRefused, false},
		{"flix.test.", mdns.TypeAXFR, mdns.RcodeRefused, false},
	} {
		resp := f.ask("udp", query(c.name, c.typ, ""))
		if resp.Rcode != c.rcode || (len(resp.Ns) == 1) != c.soa || (c.rcode == mdns.RcodeSuccess && !c.soa && len(resp.Answer) == 0) {
			t.Errorf("%s %s: %v", c.name, mdns.TypeToString[c.typ], resp)
		}
	}
	chaos := query("api.flix.test.", mdns.TypeTXT, "")
	chaos.Question[0].Qclass = mdns.ClassCHAOS
	if resp := f.ask("udp", chaos); resp.Rcode != mdns.RcodeRefused {
		t.Errorf("class CH: %v", resp)
	}
	bad := query("api.flix.test.", mdns.TypeA, "")
	bad.IsEdns0().SetVersion(1)
	if resp := f.ask("udp", bad); resp.Rcode != mdns.RcodeBadVers {
		t.Errorf("EDNS version 1: %v", resp)
	}
}

func TestScope(t *testing.T) {
	f := start(t)
	for _, c := range []struct {
		name, subnet string
		scope        uint8
	}{
		{"api.flix.test.", "198.18.1.0/24", 24},
		{"api.flix.test.", "198.18.0.0/16", 20}, // the answer holds for the ISP's /20 only
		{"x.oc.flix.test.", "198.18.1.0/24", 0},
		{"api.flix.test.", "0.0.0.0/0", 0},
	} {
		resp := f.ask("udp", query(c.name, mdns.TypeA, c.subnet))
		e, ok := resp.IsEdns0().Option[0].(*mdns.EDNS0_SUBNET)
		if !ok || e.SourceScope != c.scope {
			t.Errorf("%s %s: %v, want scope %d", c.name, c.subnet, e, c.scope)
		}
	}
	plain := new(mdns.Msg)
	plain.SetQuestion("api.flix.test.", mdns.TypeA)
	if resp := f.ask("udp", plain); resp.IsEdns0() != nil {
		t.Errorf("EDNS in the answer to a query without: %v", resp)
	}
}

func TestWeightsAndHealth(t *testing.T) {
	f := start(t)
	east := func() (stay, west, europe int) {
		for i := range 400 {
			switch p := f.port(fmt.Sprintf("198.18.%d.%d/30", i/64, i%64*4)); p {
			case 4000:
				stay++
			case 4010:
				west++
			case 4020:
				europe++
			}
		}
		return stay, west, europe
	}
	set := func(v string) { f.tel.Properties.Set(map[string]string{dns.PropWeights: v}) }

	set(`{"us-east": 0.25}`)
	stay, west, europe := east()
	if stay < 70 || stay > 130 || europe != 0 {
		t.Errorf("share 0.25: %d stay, %d go west, %d to Europe", stay, west, europe)
	}
	if again, _, _ := east(); again != stay {
		t.Errorf("%d stay, then %d: not the same clients", stay, again)
	}
	set(`{"us-east": 0}`)
	if stay, west, _ := east(); stay != 0 || west != 400 {
		t.Errorf("share 0: %d stay, %d go west", stay, west)
	}
	set(`{"us-east": 0, "us-west": 0}`)
	if _, _, europe := east(); europe != 400 {
		t.Errorf("two regions at 0: %d go to Europe", europe)
	}
	set(`{"us-east": 7}`) // refused: what was set stays
	if _, _, europe := east(); europe != 400 {
		t.Error("weights out of range were taken")
	}
	set("")
	f.edges.set("us-east")
	if stay, west, _ := east(); stay != 0 || west != 400 {
		t.Errorf("no healthy edge: %d stay, %d go west", stay, west)
	}
	f.edges.set("us-west")
	f.edges.set("eu-west", dns.Endpoint{Host: "no address", Port: 1})
	resp := f.ask("udp", query("api.flix.test.", mdns.TypeA, "198.18.1.0/24"))
	if resp.Rcode != mdns.RcodeServerFailure {
		t.Errorf("nothing healthy: %v", resp)
	}
}

// Answers that lead to a region whose clients are about to be moved are kept for a
// quarter of the time, by whatever name; those that lead elsewhere as ever.
func TestAnswersOfARegionThatIsLeft(t *testing.T) {
	f := start(t)
	ttl := func(name string, typ uint16, client string) uint32 {
		t.Helper()
		resp := f.ask("udp", query(name, typ, client))
		if len(resp.Answer) == 0 {
			t.Fatalf("%s: %v", name, resp)
		}
		for _, rr := range append(resp.Answer, resp.Extra...) {
			if rr.Header().Rrtype != mdns.TypeOPT && rr.Header().Ttl != resp.Answer[0].Header().Ttl {
				t.Errorf("%s: records of one answer are kept for different times: %v", name, resp)
			}
		}
		return resp.Answer[0].Header().Ttl
	}
	names := []struct {
		name string
		typ  uint16
	}{
		{"api.flix.test.", mdns.TypeA}, {"api.flix.test.", mdns.TypeHTTPS}, {"_https._tcp.play.flix.test.", mdns.TypeSRV},
	}
	usual := ttl("api.flix.test.", mdns.TypeA, "198.18.1.0/24")
	if usual == usual/4 {
		t.Fatalf("answers are kept for %d s: nothing tells a quarter of it", usual)
	}
	for _, c := range []struct {
		leaving string
		want    uint32
	}{{`["us-east"]`, usual / 4}, {`"us-east"`, usual / 4}, {`[]`, usual}, {`["us-west"]`, usual}, {"", usual}} { // the second is refused: what was set stays
		f.tel.Properties.Set(map[string]string{dns.PropLeaving: c.leaving})
		for _, n := range names {
			if got := ttl(n.name, n.typ, "198.18.1.0/24"); got != c.want {
				t.Errorf("leaving %s: %s %s is kept for %d s, want %d", c.leaving, n.name, mdns.TypeToString[n.typ], got, c.want)
			}
		}
	}
}

func TestTruncation(t *testing.T) {
	f := start(t)
	var many []dns.Endpoint
	for i := range 60 {
		many = append(many, dns.Endpoint{Host: fmt.Sprintf("127.0.1.%d", i+1), Port: 443, Zone: fmt.Sprintf("zone-%d", i)})
	}
	f.edges.set("us-east", many...)
	if resp := f.ask("udp", query("api.flix.test.", mdns.TypeHTTPS, "")); !resp.Truncated || wire(t, resp) > 1232 {
		t.Errorf("%d bytes, truncated %v", wire(t, resp), resp.Truncated)
	}
	small := new(mdns.Msg)
	small.SetQuestion("api.flix.test.", mdns.TypeA)
	if resp := f.ask("udp", small); !resp.Truncated || wire(t, resp) > 512 {
		t.Errorf("without EDNS: %d bytes, truncated %v", wire(t, resp), resp.Truncated)
	}
	if resp := f.ask("tcp", query("api.flix.test.", mdns.TypeHTTPS, "")); resp.Truncated || len(resp.Answer) != 60 {
		t.Errorf("TCP: %d records, truncated %v", len(resp.Answer), resp.Truncated)
	}
}

// wire is the size of a message as it was sent, names compressed.
func wire(t *testing.T, m *mdns.Msg) int {
	t.Helper()
	m.Compress = true
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return len(b)
}

func TestSetTopologyAndMetrics(t *testing.T) {
	f := start(t)
	topo, err := topology.Preset(4)
	if err != nil {
		t.Fatal(err)
	}
	f.edges.set("ap-northeast", dns.Endpoint{Host: "127.0.0.1", Port: 4030, Zone: "a"})
	f.srv.SetTopology(topo)
	if got := f.port("198.18.192.0/24"); got != 4030 {
		t.Errorf("a client of the new region is sent to port %d", got)
	}
	families, err := f.tel.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, fam := range families {
		if fam.GetName() == "dns_queries_total" && strings.Contains(fam.String(), "ap-northeast") {
			return
		}
	}
	t.Error("dns_queries_total does not name the region")
}
