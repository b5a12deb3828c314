package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway/wire"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what is awaited.
const patience = time.Minute

// playPath is where plays begin.
const playPath = "/play/start"

// world is a lab of gateways and APIs in one test.
type world struct {
	t       testing.TB
	cert    tls.Certificate
	roots   *x509.CertPool
	key     token.Key
	topo    topology.Topology
	mu      sync.Mutex
	remotes map[string][]RemoteGateway
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, remotes: make(map[string][]RemoteGateway)}
	var err error
	if w.topo, err = topology.Preset(3); err != nil {
		t.Fatal(err)
	}
	if w.key, err = token.NewKey("test-lab", bytes.Repeat([]byte("k"), 32)); err != nil {
		t.Fatal(err)
	}
	w.cert = w.certificate(time.Now().Add(time.Hour))
	leaf, err := x509.ParseCertificate(w.cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	w.roots = x509.NewCertPool()
	w.roots.AddCert(leaf)
	return w
}

// certificate makes one of the public names that is good until then.
func (w *world) certificate(until time.Time) tls.Certificate {
	t := w.t
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{edgeHost, "play.flix.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: priv}
}

func (w *world) remote(region string) []RemoteGateway {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.remotes[region]
}

func (w *world) member(id string) string {
	return "Bearer " + w.key.Sign(token.Member, token.Claims{Member: id, Plan: "premium", Device: "tv", Country: "US"}, time.Now(), time.Hour)
}

// debug signs the header that asks for the detail of a request.
func (w *world) debug() string {
	return w.key.Sign(token.Debug, token.Claims{}, time.Now(), time.Hour)
}

// registry is a Lookup that tests write to.
type registry struct {
	mu   sync.Mutex
	vips map[string][]lookup.Instance
}

func (r *registry) VIP(vip string) []lookup.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vips[vip]
}

func (r *registry) add(vip, id, zone, addr string) {
	r.addPorts(vip, id, zone, map[string]string{topology.PortHTTP: addr})
}

// addPorts adds an instance with its addresses by the names of their ports.
func (r *registry) addPorts(vip, id, zone string, addrs map[string]string) {
	i := lookup.Instance{ID: id, VIP: vip, Region: "us-east", Zone: zone, Ports: map[string]int{}}
	for name, addr := range addrs {
		host, port, _ := net.SplitHostPort(addr)
		i.Host = host
		i.Ports[name], _ = strconv.Atoi(port)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vips[vip] = append(r.vips[vip], i)
}

// edge is one running gateway.
type edge struct {
	*Server
	w         *world
	tel       *telemetry.Telemetry
	registry  *registry
	addr      string
	plainAddr string
	stop      func()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// timing is the lab's with calls that may take their time: a machine that is
// busy for a second must not be taken for a server that is late.
func timing() topology.Timing {
	t := topology.LabTiming()
	t.RPCTimeout *= 5
	return t
}

func (w *world) gateway(region string, change ...func(*Deps)) *edge {
	w.t.Helper()
	return w.bounded(region, nil, change...)
}

// bounded is gateway with other bounds for its clients.
func (w *world) bounded(region string, bound func(*wire.Limits), change ...func(*Deps)) *edge {
	t := w.t
	t.Helper()
	id := region + "/a/gateway/1"
	e := &edge{
		w: w, registry: &registry{vips: make(map[string][]lookup.Instance)},
		tel: telemetry.New(telemetry.Config{Instance: id, Role: "gateway", Region: region}),
	}
	l, h := listen(t), listen(t)
	e.addr, e.plainAddr = l.Addr().String(), h.Addr().String()
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	d := Deps{
		PlayPath: playPath,
		TLS:      l, TLSConfig: &tls.Config{Certificates: []tls.Certificate{w.cert}}, HTTP: h,
		Instance: id, Region: region, Zone: "a", Lookup: e.registry, Remote: w.remote,
		RootCAs: w.roots, Key: w.key, Topology: func() topology.Topology { return w.topo },
		OriginCIDRs: []netip.Prefix{loopback}, TrustedProxies: []netip.Prefix{loopback},
		Tel: e.tel, Timing: timing(),
	}
	for _, c := range change {
		c(&d)
	}
	s, err := New(d)
	if err != nil {
		t.Fatal(err)
	}
	if bound != nil {
		bound(&s.bounds)
	}
	e.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
	})
	t.Cleanup(e.stop)
	w.mu.Lock()
	w.remotes[region] = append(w.remotes[region], RemoteGateway{ID: id, Region: region, Addr: e.addr})
	w.mu.Unlock()
	return e
}

func (e *edge) set(name, value string) { e.tel.Properties.Set(map[string]string{name: value}) }

// api starts an API in this gateway's zone.
func (e *edge) api(vip, id string, h http.HandlerFunc) { e.apiIn("a", vip, id, h) }

func (e *edge) apiIn(zone, vip, id string, h http.HandlerFunc) {
	srv := httptest.NewServer(h)
	e.w.t.Cleanup(srv.Close)
	e.registry.add(vip, id, zone, srv.Listener.Addr().String())
}

// seen is what an API saw of a request.
type seen struct {
	By     string
	Method string
	Path   string
	Header http.Header
	Body   string
}

// echo answers with what it saw.
func echo(by string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // a broken body is a short one
		telemetry.WriteJSON(w, http.StatusOK, seen{By: by, Method: r.Method, Path: r.URL.String(), Header: r.Header, Body: string(b)})
	}
}

// client is a player: it says its address in a PROXY header and keeps its
// connections.
func (e *edge) client(address string, h2 bool) *http.Client {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: e.w.roots, ServerName: edgeHost},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialAs(ctx, e.addr, address)
		},
	}
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP2(h2)
	tr.Protocols.SetHTTP1(!h2)
	e.w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func dialAs(ctx context.Context, addr, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	a := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	if _, err := proxyproto.HeaderProxyFromAddrs(2, a, a).WriteTo(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

const (
	eastClient = "198.18.0.7:4000"  // of us-east-isp-1
	westClient = "198.18.64.7:4000" // of us-west-isp-1
)

type answer struct {
	*http.Response
	body string
}

func (a answer) seen(t *testing.T) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatalf("status %d, body %q: %v", a.StatusCode, a.body, err)
	}
	return s
}

func (a answer) problem(t *testing.T) services.Problem {
	t.Helper()
	var p services.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("status %d, body %q: %v", a.StatusCode, a.body, err)
	}
	return p
}

func ask(t *testing.T, c *http.Client, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+edgeHost+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{Response: resp, body: string(b)}
}

// eventually polls a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
}

// metric reads a counter or gauge from the gateway's registry; labels are
// name, value pairs.
func (e *edge) metric(name string, labels ...string) float64 {
	families, err := e.tel.Metrics.Gather()
	if err != nil {
		e.w.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			have := make(map[string]string)
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if have[labels[i]] != labels[i+1] {
					continue metrics
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
