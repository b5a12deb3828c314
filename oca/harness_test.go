package oca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/flix-lab/flix/oca"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/cachecontrol"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// patience only bounds a test that would hang.
const patience = time.Minute

func testTiming() topology.Timing {
	t := topology.LabTiming()
	t.HealthReport = topology.Duration(100 * time.Millisecond)
	// An appliance that is not heard of while the machine stands still is not
	// taken for gone, nor is a tier that does not get on helped out.
	t.ReportExpiry = topology.Duration(time.Minute)
	t.FillEscalation = topology.Duration(time.Hour)
	t.CacheControlSync = topology.Duration(50 * time.Millisecond)
	t.ScrubInterval = topology.Duration(time.Hour)
	return t
}

// eventually polls until ok returns "" and fails with what it says otherwise.
func eventually(t testing.TB, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + why)
		}
		<-tick.C
	}
}

// bucket is an object store: it serves titles and counts what leaves it.
type bucket struct {
	*httptest.Server
	bytes atomic.Int64
	// cut, when set, breaks the connection of an answer after so many bytes.
	cut func(path string) (after int64)

	mu      sync.Mutex
	objects map[string][]byte
}

func newBucket(t testing.TB) *bucket {
	b := &bucket{objects: map[string][]byte{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *bucket) put(key string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = body
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	body, ok := b.objects[strings.TrimPrefix(r.URL.Path, "/media/")]
	b.mu.Unlock()
	if !ok || r.URL.Query().Get("signature") != "good" {
		http.Error(w, "denied", http.StatusForbidden)
		return
	}
	left := int64(-1)
	if b.cut != nil {
		left = b.cut(r.URL.Path)
	}
	http.ServeContent(&meter{ResponseWriter: w, bytes: &b.bytes, left: left}, r, "", time.Time{}, bytes.NewReader(body))
}

// meter counts the bytes of an answer and panics, which breaks the
// connection, when its allowance is used up.
type meter struct {
	http.ResponseWriter
	bytes *atomic.Int64
	left  int64
}

func (m *meter) Write(b []byte) (int, error) {
	if m.left >= 0 && int64(len(b)) > m.left {
		m.bytes.Add(m.left)
		_, _ = m.ResponseWriter.Write(b[:m.left])
		_ = http.NewResponseController(m.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	m.bytes.Add(int64(len(b))) // before: the receiver may be faster
	n, err := m.ResponseWriter.Write(b)
	if m.left >= 0 {
		m.left -= int64(n)
	}
	return n, err
}

// site is a little lab: one object store, cache controls and appliances.
type site struct {
	t        testing.TB
	topo     topology.Topology
	kv       *memoryKV
	s3       *bucket
	key      token.Key
	cert     tls.Certificate
	mu       sync.Mutex
	controls map[string]*control
	ocas     map[string]*appliance
	dir      string
	dial     services.DialFunc
}

type unit struct {
	cancel context.CancelFunc
	done   chan error
}

func start(t testing.TB, u services.Unit) unit {
	ctx, cancel := context.WithCancel(context.Background())
	r := unit{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- u.Serve(ctx) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends the unit and waits for it; it may be called again.
func (u unit) stop(t testing.TB) {
	u.cancel()
	if err, ok := <-u.done; ok {
		close(u.done)
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

type control struct {
	unit
	pb.CacheControlClient
	addr string
	up   atomic.Bool
}

type appliance struct {
	unit
	*oca.Server
	id     string
	dir    string
	client string // address of the client side
	fill   string // base URL
	plain  string // base URL
	tel    *telemetry.Telemetry
}

func newSite(t testing.TB, regions int) *site {
	topo, err := topology.Preset(regions)
	if err != nil {
		t.Fatal(err)
	}
	topo.Timing = testTiming()
	key, err := token.NewKey("test", bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, topo: topo, kv: newMemoryKV(), s3: newBucket(t), key: key, cert: newCert(t), controls: map[string]*control{}, ocas: map[string]*appliance{}, dir: t.TempDir()}
}

func newCert(t testing.TB) tls.Certificate {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "oca"}, DNSNames: []string{"oca.flix.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

func listen(t testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *site) startControl(region string) *control {
	s.t.Helper()
	l := listen(s.t)
	srv, err := cachecontrol.New(cachecontrol.Deps{
		RPC: l, Region: region, Instance: region + "/a/cachecontrol/1", KV: s.kv, Regions: s.topo.RegionNames,
		Peers: func(r string) (pb.CacheControlClient, bool) {
			c := s.control(r)
			return c, c != nil && c.up.Load()
		},
		Presign:  func(_, key string) (string, error) { return s.s3.URL + "/media/" + key + "?signature=good", nil },
		Topology: func() topology.Topology { return s.topo }, Tel: telemetry.New(telemetry.Config{Instance: region}), Timing: s.topo.Timing,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := grpc.NewClient(l.Addr().String(), append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	c := &control{unit: start(s.t, srv), CacheControlClient: pb.NewCacheControlClient(conn), addr: l.Addr().String()}
	c.up.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.controls[region] = c
	return c
}

func (s *site) control(region string) *control {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.controls[region]
}

// pick is Deps.Control for an appliance of a region.
func (s *site) pick(region string) func(context.Context) (pb.CacheControlClient, string, error) {
	return func(context.Context) (pb.CacheControlClient, string, error) {
		for _, r := range s.topo.Nearest(region) {
			if c := s.control(r); c != nil && c.up.Load() {
				return c, r, nil
			}
		}
		return nil, "", services.Errorf(services.Unavailable, "no cache control")
	}
}

func (s *site) startAppliance(id string) *appliance {
	s.t.Helper()
	for _, i := range s.topo.Instances() {
		if i.ID == id {
			return s.startInstance(i)
		}
	}
	s.t.Fatalf("no appliance %s", id)
	return nil
}

func (s *site) startInstance(i topology.Instance) *appliance {
	s.t.Helper()
	client, fill, plain := listen(s.t), listen(s.t), listen(s.t)
	timing := s.topo.Timing
	timing.RPCTimeout = topology.Duration(patience) // a peer waits for a byte that arrives, however long it takes
	a := &appliance{id: i.ID, dir: filepath.Join(s.dir, strings.ReplaceAll(i.ID, "/", "_")), client: client.Addr().String(), fill: "http://" + fill.Addr().String(), plain: "http://" + plain.Addr().String(), tel: telemetry.New(telemetry.Config{Instance: i.ID})}
	srv, err := oca.New(oca.Deps{
		Client: client, TLS: &tls.Config{Certificates: []tls.Certificate{s.cert}}, Fill: fill, Dir: a.dir, ID: services.ApplianceID(i.ID),
		Site: *i.Site, Region: i.Region, Appliance: *i.Appliance, ClientURL: "https://" + a.client, FillURL: a.fill, Plain: plain, PlainURL: a.plain,
		Control: s.pick(i.Region), Dial: s.dial, Key: s.key, Tel: a.tel, Timing: timing, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	a.Server, a.unit = srv, start(s.t, srv)
	s.ocas[i.ID] = a
	return a
}

// title makes files of the given sizes, stores them and returns the asset.
func (s *site) title(id string, version uint64, sizes ...int) *pb.Asset {
	a := &pb.Asset{TitleId: id, Version: version, Origins: []string{"us-east"}, Popularity: 1}
	src := mathrand.NewChaCha8(sha256.Sum256([]byte(id)))
	for i, size := range sizes {
		body := make([]byte, size)
		_, _ = src.Read(body)
		path := fmt.Sprintf("v%d.mp4", i)
		digest := sha256.Sum256(body)
		a.Files = append(a.Files, &pb.File{Path: path, Size: uint64(size), Sha256: digest[:], Kind: "video"})
		s.s3.put(fmt.Sprintf("titles/%s/%d/%s", id, version, path), body)
	}
	return a
}

func (s *site) body(a *pb.Asset, file int) []byte {
	s.s3.mu.Lock()
	defer s.s3.mu.Unlock()
	return s.s3.objects[fmt.Sprintf("titles/%s/%d/%s", a.TitleId, a.Version, a.Files[file].Path)]
}

func (s *site) publish(region string, a *pb.Asset) {
	s.t.Helper()
	if _, err := s.controls[region].Publish(s.t.Context(), &pb.PublishRequest{Asset: a}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) status(region string) *pb.FillStatusReply {
	s.t.Helper()
	r, err := s.controls[region].FillStatus(s.t.Context(), &pb.FillStatusRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// waitFilled waits until so many appliances hold all that is assigned to them.
func (s *site) waitFilled(region string, appliances int, titles ...*pb.Asset) *pb.FillStatusReply {
	s.t.Helper()
	files := 0
	for _, a := range titles {
		files += len(a.GetFiles())
	}
	var last *pb.FillStatusReply
	eventually(s.t, func() string {
		last = s.status(region)
		full := 0
		for _, a := range last.Appliances {
			if a.Held == a.Assigned && int(a.Assigned) == files {
				full++
			}
		}
		if full == appliances {
			return ""
		}
		return fmt.Sprintf("%d of %d appliances are full of %d files: %v", full, appliances, files, last)
	})
	return last
}

// httpClient returns a client that comes from the given address by PROXY
// protocol.
func (s *site) httpClient(from string) *http.Client {
	tr := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil || from == "" {
				return c, err
			}
			h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 4321)), c.RemoteAddr())
			if _, err := h.WriteTo(c); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
	}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// url signs a client's URL of a file.
func (s *site) url(a *appliance, asset *pb.Asset, file int, client string) string {
	tok := s.key.Sign(token.URL, token.Claims{Title: asset.TitleId, Client: client, Session: "s-1"}, time.Now(), time.Hour)
	return fmt.Sprintf("https://%s/%s/t/%s/%d/%s", a.client, tok, asset.TitleId, asset.Version, asset.Files[file].Path)
}

// forwarded marks a call as one that another cache control passed on.
func forwarded(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "flix-forwarded", "test")
}
