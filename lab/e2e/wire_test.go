package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// wireTime bounds every question to a store.
const wireTime = 30 * time.Second

// onePlayOnTheWire looks at the stores before and after one play, each by its
// own protocol: nothing of a play may be make-believe.
func onePlayOnTheWire(l *lab) {
	t := l.t
	caches := l.addresses("us-east", "evcache", "rpc")
	kafka := l.addresses("us-east", "kafka", "rpc")
	gateways := l.addresses("us-east", "gateway", "admin")
	reading := func() (gets, records, requests float64) {
		for _, a := range caches {
			gets += memcachedStat(t, a, "cmd_get")
		}
		for _, a := range gateways {
			requests += metric(t, a, "gateway_requests_total", "")
		}
		return gets, endOffsets(t, kafka, "playback"), requests
	}
	gets, records, requests := reading()
	p := l.play(quick("us-east")...)
	if p.Region != "us-east" {
		t.Fatalf("%s answered, the stores of us-east were read", p.Region)
	}
	// A play asks for sign-in, title, start and reports at least.
	await(t, 5*time.Second, "one play on the wire", func() error {
		g, k, r := reading()
		if g <= gets || k <= records || r < requests+4 {
			return fmt.Errorf("memcached cmd_get %g → %g, Kafka end offsets %g → %g, gateway requests %g → %g", gets, g, records, k, requests, r)
		}
		return nil
	})
}

// memcachedStat reads one figure of the memcached text protocol's "stats".
func memcachedStat(t testing.TB, addr, name string) float64 {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, wireTime)
	if err != nil {
		t.Fatalf("memcached: %v", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wireTime))
	if _, err := io.WriteString(c, "stats\r\n"); err != nil {
		t.Fatalf("memcached: %v", err)
	}
	s := bufio.NewScanner(c)
	for s.Scan() && s.Text() != "END" {
		if v, ok := strings.CutPrefix(s.Text(), "STAT "+name+" "); ok {
			return number(t, v)
		}
	}
	t.Fatalf("memcached at %s does not tell %s (%v)", addr, name, s.Err())
	return 0
}

func number(t testing.TB, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// endOffsets sums the end offsets of a topic's partitions.
func endOffsets(t testing.TB, brokers []string, topic string) float64 {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatalf("kafka: %v", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), wireTime)
	defer cancel()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatalf("kafka: %v", err)
	}
	sum := 0.0
	ends.Each(func(o kadm.ListedOffset) { sum += float64(o.Offset) })
	return sum
}

// metric sums the series of a metric whose labels hold the given text, as
// Prometheus would scrape them; 0 if there is none yet.
func metric(t testing.TB, admin, name, labels string) float64 {
	t.Helper()
	body, _ := get(t, "http://"+admin+"/metrics", nil, http.StatusOK)
	sum := 0.0
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') || !strings.Contains(rest, labels) {
			continue
		}
		sum += number(t, rest[strings.LastIndexByte(rest, ' '):])
	}
	return sum
}

func get(t testing.TB, url string, header http.Header, status int) (string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wireTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Errorf("%s answers %s, want %d: %s", url, resp.Status, status, tail(string(b), 5))
	}
	return string(b), resp.Header
}

// ask sends one DNS question for a client in a subnet.
func ask(t testing.TB, server, name string, qtype uint16, subnet string) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	if subnet != "" {
		ip, network, err := net.ParseCIDR(subnet)
		if err != nil {
			t.Fatal(err)
		}
		bits, _ := network.Mask.Size()
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		opt.SetUDPSize(1232)
		opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(bits), Address: ip})
		q.Extra = append(q.Extra, opt)
	}
	resp, _, err := (&dns.Client{Timeout: wireTime}).Exchange(q, server)
	if err != nil {
		t.Fatalf("dns: %v", err)
	}
	return resp
}

// edges are the ports that HTTPS records name.
func edges(m *dns.Msg) map[string]bool {
	out := map[string]bool{}
	for _, rr := range m.Answer {
		if h, ok := rr.(*dns.HTTPS); ok {
			for _, v := range h.Value {
				if v.Key() == dns.SVCB_PORT {
					out[v.String()] = true
				}
			}
		}
	}
	return out
}

func dnsAnswersByPlace(l *lab) {
	t := l.t
	server := l.addresses("us-east", "dns", "client")[0]
	for region, subnet := range map[string]string{"us-east": "198.18.0.0/24", "us-west": "198.18.64.0/24", "eu-west": "198.18.128.0/24"} {
		m := ask(t, server, "api.flix.test.", dns.TypeHTTPS, subnet)
		got := edges(m)
		if m.Rcode != dns.RcodeSuccess || !m.Authoritative || len(got) == 0 {
			t.Fatalf("HTTPS of api.flix.test for %s: %s", subnet, m)
		}
		want := map[string]bool{}
		for _, a := range l.addresses(region, "elb", "client") {
			_, port, _ := net.SplitHostPort(a)
			want[port] = true
		}
		for port := range got {
			if !want[port] {
				t.Errorf("a client in %s is sent to port %s, the balancers of %s are at %v", subnet, port, region, want)
			}
		}
		for _, rr := range m.Answer {
			if ttl := rr.Header().Ttl; ttl == 0 || ttl > 2 {
				t.Errorf("TTL %d, the lab's is 2 s: %s", ttl, rr)
			}
		}
		wantScope(t, m)
	}
	a := ask(t, server, "api.flix.test.", dns.TypeA, "198.18.64.0/24")
	if len(a.Answer) == 0 || a.Answer[0].Header().Rrtype != dns.TypeA {
		t.Errorf("A of api.flix.test: %s", a)
	}
	if m := ask(t, server, "nothing.flix.test.", dns.TypeA, ""); m.Rcode != dns.RcodeNameError || len(m.Ns) == 0 {
		t.Errorf("a name that does not exist: want NXDOMAIN with the SOA, got %s", m)
	}
	if m := ask(t, server, "example.com.", dns.TypeA, ""); m.Rcode != dns.RcodeRefused {
		t.Errorf("a name outside the zone: want REFUSED, got %s", m)
	}
}

// wantScope checks that the answer says for which clients it holds.
func wantScope(t testing.TB, m *dns.Msg) {
	t.Helper()
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_SUBNET); ok && e.SourceScope > 0 && e.SourceNetmask == 24 {
				return
			}
		}
	}
	t.Errorf("the answer has no client subnet with a scope: %s", m)
}

func registrySpeaksEureka(l *lab) {
	t := l.t
	base := "http://" + l.addresses("us-east", "registry", "http")[0] + "/eureka/v2"
	body, h := get(t, base+"/vips/gateway", http.Header{"Accept": {"application/json"}}, http.StatusOK)
	if !strings.HasPrefix(h.Get("Content-Type"), "application/json") {
		t.Errorf("Content-Type %q", h.Get("Content-Type"))
	}
	var got struct {
		Applications struct {
			Hash        string `json:"apps__hashcode"`
			Application []struct {
				Name     string `json:"name"`
				Instance []struct {
					InstanceID string `json:"instanceId"`
					Status     string `json:"status"`
					VIP        string `json:"vipAddress"`
					Port       struct {
						Number any `json:"$"`
					} `json:"port"`
					LeaseInfo struct {
						Duration int `json:"durationInSecs"`
					} `json:"leaseInfo"`
					Metadata map[string]string `json:"metadata"`
				} `json:"instance"`
			} `json:"application"`
		} `json:"applications"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("registry: %v\n%s", err, body)
	}
	zones := map[string]bool{}
	for _, a := range got.Applications.Application {
		for _, i := range a.Instance {
			if a.Name != "GATEWAY" || i.Status != "UP" || i.VIP != "gateway" || i.LeaseInfo.Duration != 3 || i.Metadata["region"] != "us-east" {
				t.Errorf("%s: %+v", a.Name, i)
			}
			zones[i.Metadata["zone"]] = true
		}
	}
	if len(zones) != 2 || got.Applications.Hash != "UP_2_" {
		t.Errorf("gateways in zones %v, hash code %q; want one in each of two zones", zones, got.Applications.Hash)
	}
	if body, _ := get(t, base+"/apps", nil, http.StatusOK); !strings.Contains(body, "LICENSE") {
		t.Errorf("/apps does not list the licence service: %.300s", body)
	}
	get(t, base+"/instances/us-east:a:nobody:1", nil, http.StatusNotFound)
}

func s3RefusesAnonymous(l *lab) {
	base := "http://" + l.addresses("us-east", "s3", "http")[0]
	for _, path := range []string{"/", "/media/", "/media/titles/harbor-lights/1/index.json"} {
		body, _ := get(l.t, base+path, nil, http.StatusForbidden)
		if !strings.Contains(body, "<Code>AccessDenied</Code>") {
			l.t.Errorf("GET %s without a signature: %s", path, body)
		}
	}
	now := time.Now().UTC()
	forged := http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=flix/" + now.Format("20060102") + "/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + strings.Repeat("0", 64)},
		"X-Amz-Date": {now.Format("20060102T150405Z")}, "X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}
	get(l.t, base+"/media/", forged, http.StatusForbidden)
}
