package player

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// zone answers from a map of "TYPE name" to records, over UDP and TCP on one
// port, and counts queries.
type zone struct {
	mu      sync.Mutex
	records map[string][]string
	rcode   int
	// truncate makes UDP answers too short.
	truncate bool
	queries  map[string]int
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	key := dns.TypeToString[q.Question[0].Qtype] + " " + strings.TrimSuffix(q.Question[0].Name, ".")
	z.queries[key]++
	m.Rcode = z.rcode
	for _, text := range z.records[key] {
		rr, err := dns.NewRR(q.Question[0].Name + " " + text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if _, udp := w.LocalAddr().(*net.UDPAddr); udp && z.truncate {
		m.Answer, m.Truncated = nil, true
	}
	_ = w.WriteMsg(m)
}

func (z *zone) start(t *testing.T) dnsServer {
	t.Helper()
	z.queries = map[string]int{}
	ln, pc := twoSockets(t)
	for _, srv := range []*dns.Server{{Listener: ln, Handler: z}, {PacketConn: pc, Handler: z}} {
		started, done := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = srv.Shutdown(); <-done })
	}
	return dnsServer{addr: ln.Addr().String(), timeout: time.Minute} // one that is slow has not failed
}

// twoSockets takes a port that is free for streams and for datagrams.
func twoSockets(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	var last error
	for range 20 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return ln, pc
		}
		_, last = ln.Close(), err
	}
	t.Fatalf("no port is free for both: %v", last)
	return nil, nil
}

func (z *zone) count(key string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.queries[key]
}

func testResolver(now func() time.Time, servers ...dnsServer) *resolver {
	var d net.Dialer
	return &resolver{tel: telemetry.Discard(), dial: d.DialContext, client: subnet(netip.MustParseAddr("198.18.4.7")), now: now,
		retryAfter: time.Hour, servers: servers, cache: make(map[string]answer)}
}

func TestResolverEdge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		records map[string][]string
		want    string
	}{
		{"HTTPS with hints", map[string][]string{"HTTPS api.flix.test": {`2 IN HTTPS 1 . port=4001 ipv4hint=127.0.0.2`, `2 IN HTTPS 1 . port=4002 ipv4hint=127.0.0.3`}}, "127.0.0.2:4001 127.0.0.3:4002"},
		{"HTTPS without hints", map[string][]string{"HTTPS api.flix.test": {`2 IN HTTPS 1 . port=4001`}, "A api.flix.test": {"2 IN A 127.0.0.4"}}, "127.0.0.4:4001"},
		{"HTTPS with a target", map[string][]string{"HTTPS api.flix.test": {`2 IN HTTPS 1 elb.flix.test. port=4001`}, "A elb.flix.test": {"2 IN A 127.0.0.5"}}, "127.0.0.5:4001"},
		{"SRV and A", map[string][]string{"SRV _https._tcp.api.flix.test": {"2 IN SRV 0 0 4003 elb.flix.test."}, "A elb.flix.test": {"2 IN A 127.0.0.6"}}, "127.0.0.6:4003"},
	} {
		for _, truncate := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				z := &zone{records: tc.records, truncate: truncate}
				addrs, err := testResolver(time.Now, z.start(t)).edge(t.Context(), "api.flix.test")
				var got []string
				for _, a := range addrs {
					got = append(got, a.String())
				}
				if err != nil || strings.Join(got, " ") != tc.want {
					t.Errorf("got %v, %v, want %s", got, err, tc.want)
				}
			})
		}
	}
}

func TestResolverKeepsAnswersForTheirTimeToLive(t *testing.T) {
	t.Parallel()
	z := &zone{records: map[string][]string{"A a.oc.flix.test": {"30 IN A 127.0.0.2"}}}
	now := time.Unix(1000, 0)
	r := testResolver(func() time.Time { return now }, z.start(t))
	for _, step := range []struct {
		pass   time.Duration
		forget bool
		want   int
	}{{0, false, 1}, {29 * time.Second, false, 1}, {2 * time.Second, false, 2}, {0, true, 3}} {
		now = now.Add(step.pass)
		if step.forget {
			r.forget("a.oc.flix.test")
		}
		if _, err := r.host(t.Context(), "a.oc.flix.test"); err != nil {
			t.Fatal(err)
		}
		if got := z.count("A a.oc.flix.test"); got != step.want {
			t.Errorf("%d queries, want %d", got, step.want)
		}
	}
}

func TestResolverFailures(t *testing.T) {
	t.Parallel()
	broken := &zone{rcode: dns.RcodeServerFailure}
	good := &zone{records: map[string][]string{"A a.oc.flix.test": {"30 IN A 127.0.0.2"}}}
	none := &zone{rcode: dns.RcodeNameError}
	t.Run("a broken server is asked last afterwards", func(t *testing.T) {
		r := testResolver(time.Now, broken.start(t), good.start(t))
		for range 2 {
			if _, err := r.host(t.Context(), "a.oc.flix.test"); err != nil {
				t.Fatal(err)
			}
			r.forget("a.oc.flix.test")
		}
		if got := broken.count("A a.oc.flix.test"); got != 1 {
			t.Errorf("the broken server was asked %d times, want once", got)
		}
	})
	t.Run("all broken", func(t *testing.T) {
		_, err := testResolver(time.Now, broken.start(t)).host(t.Context(), "a.oc.flix.test")
		if services.KindOf(err) != services.Unavailable || !strings.Contains(err.Error(), "SERVFAIL") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no such name is an answer", func(t *testing.T) {
		r := testResolver(time.Now, none.start(t), good.start(t))
		if _, err := r.host(t.Context(), "a.oc.flix.test"); services.KindOf(err) != services.NotFound {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := testResolver(time.Now, good.start(t)).host(ctx, "a.oc.flix.test"); err == nil {
			t.Error("a cancelled look-up answers")
		}
	})
}
