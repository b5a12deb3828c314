package player

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/pires/go-proxyproto"

	"github.com/flix-lab/flix/lab/pki"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/discovery"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/play"
	"github.com/flix-lab/flix/services/signup"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// fakeLab is the edge of a lab as a player sees it: DNS, the public API behind
// PROXY protocol and TLS, and appliances.
type fakeLab struct {
	t    testing.TB
	wire *fakeWire
	cert tls.Certificate
	ca   *x509.CertPool
	topo topology.Topology
	dns  string
	api  *fakeServer
	// files of the title, by path below an appliance's URL.
	files map[string][]byte
	index media.Index
	sum   []byte
	ocas  []*fakeOCA

	mu       sync.Mutex
	subnets  map[string]bool // of EDNS Client Subnet
	clients  map[string]bool // addresses of PROXY headers at the API
	requests []string        // paths at the API
	resumed  []bool          // whether each of them came in a resumed TLS session
	parents  map[string]bool // traceparent trace ids
	reports  []play.ReportRequest
	open     []int64 // connections that the appliances had at each of the reports
	suspects []play.SuspectRequest
	renews   []play.RenewRequest
	starts   int
	// refuse answers the first requests for a path with an error.
	refuse map[string][]error
	// offer changes which appliances are offered; nil is all.
	offer    func(renewal int) []*fakeOCA
	position float64
}

// fakeOCA is an appliance.
type fakeOCA struct {
	*fakeServer
	name, kind string
	rank       int
	number     int
	flip       atomic.Bool  // send wrong bytes
	status     atomic.Int32 // answer this instead of a file
	rate       atomic.Int64 // bytes per second; 0 is unbound
	served     atomic.Int64 // requests
	after      func(n int64)
}

// fakeServer is an HTTPS server behind PROXY protocol that can be killed.
type fakeServer struct {
	ln   net.Listener
	srv  *http.Server
	open atomic.Int64 // connections
}

func (l *fakeLab) serve(h http.Handler, protocols ...string) *fakeServer {
	ln := l.wire.listen()
	pl := &proxyproto.Listener{Listener: ln, ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		return proxyproto.REQUIRE, nil
	}}
	s := &fakeServer{ln: ln}
	s.srv = &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{l.cert}, MinVersion: tls.VersionTLS13, NextProtos: protocols},
		ErrorLog: log.New(io.Discard, "", 0), ConnState: s.count}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.srv.ServeTLS(pl, "", "") }()
	l.t.Cleanup(func() { s.srv.Close(); <-done })
	return s
}

func (s *fakeServer) count(_ net.Conn, to http.ConnState) {
	switch to {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

// kill resets what is open and refuses what comes.
func (s *fakeServer) kill() { s.srv.Close() }

func (s *fakeServer) port() uint16 { return uint16(s.ln.Addr().(*net.TCPAddr).Port) }

var fakeRungs = []struct{ kbps, height int }{{150, 180}, {400, 360}, {900, 720}}

const (
	fakeTitle   = "tt-harbor-lights"
	fakeVersion = 3
)

// newFakeLab starts a lab with appliances of the given kinds, best first. It is
// for a bubble of synctest: its network is one in fake time.
func newFakeLab(t testing.TB, segments int, kinds ...string) *fakeLab {
	t.Helper()
	t.Cleanup(func() { <-time.After(time.Minute) }) // what a distance delays is delivered, in fake time
	bundle, err := pki.New("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l := &fakeLab{t: t, wire: newWire(), subnets: map[string]bool{}, clients: map[string]bool{}, parents: map[string]bool{}, refuse: map[string][]error{}, files: map[string][]byte{}}
	if l.cert, err = tls.X509KeyPair(bundle.Cert, bundle.Key); err != nil {
		t.Fatal(err)
	}
	l.ca = x509.NewCertPool()
	l.ca.AppendCertsFromPEM(bundle.CA)
	if l.topo, err = topology.Preset(2); err != nil {
		t.Fatal(err)
	}
	l.topo.Links = nil
	l.topo.Timing.ProgressReport = topology.Duration(50 * time.Millisecond)
	l.makeTitle(segments)
	l.api = l.serve(http.HandlerFunc(l.serveAPI), "h2", "http/1.1")
	for i, kind := range kinds {
		o := &fakeOCA{name: fmt.Sprintf("us-east/site-%d/oca/1", i+1), kind: kind, rank: i, number: i + 1}
		o.fakeServer = l.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.serveOCA(o, w, r) }), "http/1.1")
		l.ocas = append(l.ocas, o)
	}
	l.dns = l.startDNS()
	return l
}

// makeTitle makes tracks of random bytes: a player decodes nothing.
func (l *fakeLab) makeTitle(segments int) {
	l.index = media.Index{Title: fakeTitle, Version: fakeVersion, DurationMS: uint64(segments) * 2000}
	random := rand.New(rand.NewPCG(1, 2))
	for i, r := range fakeRungs {
		l.addTrack(random, media.Track{ID: fmt.Sprintf("v%d", i+1), Kind: media.KindVideo, Codecs: "avc1.64001f", Kbps: r.kbps, Width: r.height * 16 / 9, Height: r.height}, segments)
	}
	l.addTrack(random, media.Track{ID: "a1", Kind: media.KindAudio, Codecs: "mp4a.40.2", Kbps: 64}, segments)
	l.setIndex()
}

func (l *fakeLab) addTrack(random *rand.Rand, t media.Track, segments int) {
	t.Path = t.ID + ".mp4"
	var file []byte
	piece := func(size int, ms uint64) media.Segment {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		sum := sha256.Sum256(b)
		s := media.Segment{Offset: uint64(len(file)), Size: uint64(size), DurationMS: ms, SHA256: sum[:]}
		file = append(file, b...)
		return s
	}
	t.Init = piece(800, 0)
	for range segments {
		t.Segments = append(t.Segments, piece(t.Kbps*2*125, 2000))
	}
	t.Size = uint64(len(file))
	l.files[t.Path] = file
	l.index.Tracks = append(l.index.Tracks, t)
}

func (l *fakeLab) setIndex() {
	b, err := json.Marshal(l.index)
	if err != nil {
		l.t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	l.files["index.json"], l.sum = b, sum[:]
}

// startDNS answers HTTPS for the API's hosts and A for the appliances'.
func (l *fakeLab) startDNS() string {
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if opt := q.IsEdns0(); opt != nil {
			for _, o := range opt.Option {
				if s, ok := o.(*dns.EDNS0_SUBNET); ok {
					l.mu.Lock()
					l.subnets[fmt.Sprintf("%s/%d", s.Address, s.SourceNetmask)] = true
					l.mu.Unlock()
				}
			}
		}
		name, loop := q.Question[0].Name, net.IPv4(127, 0, 0, 1).To4()
		header := dns.RR_Header{Name: name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 2}
		switch {
		case q.Question[0].Qtype == dns.TypeHTTPS && (name == "api.flix.test." || name == "play.flix.test."):
			rr := &dns.HTTPS{SVCB: dns.SVCB{Hdr: header, Priority: 1, Target: "."}}
			rr.Value = []dns.SVCBKeyValue{&dns.SVCBPort{Port: l.apiPort()}, &dns.SVCBIPv4Hint{Hint: []net.IP{loop}}}
			m.Answer = append(m.Answer, rr)
		case q.Question[0].Qtype == dns.TypeA && strings.HasSuffix(name, ".oc.flix.test."):
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: loop})
		default:
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	ln := l.wire.listen()
	srv := &dns.Server{Listener: ln, Handler: h}
	started, done := make(chan struct{}), make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	go func() { defer close(done); _ = srv.ActivateAndServe() }()
	<-started
	l.t.Cleanup(func() { _ = srv.Shutdown(); <-done })
	return ln.Addr().String()
}

func (l *fakeLab) serveAPI(w http.ResponseWriter, r *http.Request) {
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clients[client] = true
	l.parents[traceOf(r)] = true
	l.requests = append(l.requests, r.Host+r.URL.Path)
	l.resumed = append(l.resumed, r.TLS.DidResume)
	w.Header().Set("X-Flix-Region", "us-east")
	w.Header().Set("X-Flix-Gateway", "us-east/a/gateway/1")
	if errs := l.refuse[r.URL.Path]; len(errs) > 0 {
		l.refuse[r.URL.Path] = errs[1:]
		telemetry.WriteJSON(w, services.KindOf(errs[0]).HTTPStatus(), services.ProblemOf(errs[0]))
		return
	}
	if r.URL.Path != signup.PathSignin && r.Header.Get("Authorization") != "Bearer member-token" {
		telemetry.WriteJSON(w, http.StatusForbidden, services.ProblemOf(services.Errorf(services.Denied, "no token")))
		return
	}
	read := func(v any) {
		if err := json.NewDecoder(r.Body).Decode(v); err != nil {
			l.t.Errorf("%s: %v", r.URL.Path, err)
		}
	}
	switch r.URL.Path {
	case signup.PathSignin:
		telemetry.WriteJSON(w, http.StatusOK, signup.SigninReply{Token: "member-token"})
	case discovery.PathSearch:
		telemetry.WriteJSON(w, http.StatusOK, discovery.SearchReply{Hits: []discovery.Hit{{ID: fakeTitle, Name: "Harbor Lights", Live: true}, {ID: "tt-harbor", Name: "Harbor"}}})
	case discovery.PathRows:
		telemetry.WriteJSON(w, http.StatusOK, discovery.RowsReply{})
	case play.PathStart:
		var in play.StartRequest
		read(&in)
		l.starts++
		telemetry.WriteJSON(w, http.StatusOK, l.startReply(client, in.Session, 0))
	case play.PathRenew:
		var in play.RenewRequest
		read(&in)
		l.renews = append(l.renews, in)
		telemetry.WriteJSON(w, http.StatusOK, l.startReply(client, in.Session, len(l.renews)))
	case play.PathReport:
		var in play.ReportRequest
		read(&in)
		l.reports = append(l.reports, in)
		var open int64
		for _, o := range l.ocas {
			open += o.open.Load()
		}
		l.open = append(l.open, open)
		w.WriteHeader(http.StatusNoContent)
	case play.PathSuspect:
		var in play.SuspectRequest
		read(&in)
		l.suspects = append(l.suspects, in)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// apiPort is where DNS sends the API's clients.
func (l *fakeLab) apiPort() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.api.port()
}

// moveAPI kills the API where it is and serves it elsewhere.
func (l *fakeLab) moveAPI() {
	next := l.serve(http.HandlerFunc(l.serveAPI), "h2", "http/1.1")
	l.mu.Lock()
	old := l.api
	l.api = next
	l.mu.Unlock()
	old.kill()
}

func traceOf(r *http.Request) string {
	if parts := strings.Split(r.Header.Get("traceparent"), "-"); len(parts) == 4 {
		return parts[1]
	}
	return ""
}

func (l *fakeLab) startReply(client, session string, renewal int) play.StartReply {
	ocas := l.ocas
	if l.offer != nil {
		ocas = l.offer(renewal)
	}
	reply := play.StartReply{
		Session: session, Title: fakeTitle, Name: "Harbor Lights", Version: fakeVersion, License: "licence", LicenseExpires: time.Now().Add(time.Hour),
		DurationMS: l.index.DurationMS, PositionS: l.position, MaxHeight: 1080, IndexPath: "index.json", IndexSHA256: l.sum, Region: "us-east", Country: "US",
	}
	for _, o := range ocas {
		reply.Appliances = append(reply.Appliances, play.Appliance{
			Name: o.name, Site: fmt.Sprintf("site-%d", o.number), Kind: o.kind, Rank: o.rank,
			// The fake's signed token is the client's address.
			URL: fmt.Sprintf("https://oca-1-site-%d.oc.flix.test:%d/%s/t/%s/%d/", o.number, o.port(), client, fakeTitle, fakeVersion),
		})
	}
	return reply
}

func (l *fakeLab) serveOCA(o *fakeOCA, w http.ResponseWriter, r *http.Request) {
	n := o.served.Add(1)
	if o.after != nil {
		o.after(n)
	}
	l.mu.Lock()
	l.parents[traceOf(r)] = true
	l.mu.Unlock()
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	path, ok := strings.CutPrefix(r.URL.Path, fmt.Sprintf("/%s/t/%s/%d/", client, fakeTitle, fakeVersion))
	b := l.files[path]
	switch {
	case o.status.Load() != 0:
		w.WriteHeader(int(o.status.Load()))
		return
	case !ok:
		w.WriteHeader(http.StatusForbidden)
		return
	case b == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Header.Get("CMCD-Session") == "":
		l.t.Errorf("%s without CMCD", path)
	}
	if o.flip.Load() && strings.HasSuffix(path, ".mp4") {
		b = bytes.Clone(b)
		for i := range b {
			b[i] ^= 1
		}
	}
	var out http.ResponseWriter = w
	if rate := o.rate.Load(); rate > 0 {
		out = &slowWriter{ResponseWriter: w, rate: rate, ctx: r.Context()}
	}
	http.ServeContent(out, r, path, time.Time{}, bytes.NewReader(b))
}

// slowWriter sends at a rate.
type slowWriter struct {
	http.ResponseWriter
	rate int64
	ctx  context.Context
}

func (s *slowWriter) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		k := min(len(b), max(int(s.rate/50), 1))
		if err := sleep(s.ctx, time.Duration(k)*time.Second/time.Duration(s.rate)); err != nil {
			return written, err
		}
		n, err := s.ResponseWriter.Write(b[:k])
		written += n
		if err != nil {
			return written, err
		}
		if err := http.NewResponseController(s.ResponseWriter).Flush(); err != nil {
			return written, err
		}
		b = b[k:]
	}
	return written, nil
}

func (l *fakeLab) config() Config {
	return Config{
		Resolvers: []Resolver{{Region: "us-east", Address: l.dns}}, RootCAs: l.ca, Topology: l.topo,
		Dial: wan.NewTableOver(l.wire.dial, topology.Topology{}, nil).Dialer,
		Tel:  telemetry.New(telemetry.Config{Instance: "player", Role: "player"}),
	}
}

func (l *fakeLab) options() Options {
	return Options{Title: "harbor LIGHTS", Email: "a@example.com", Password: "secret", Speed: 50}
}

// play runs one play with a configuration of the lab's.
func (l *fakeLab) play(t testing.TB, c Config, o Options) (Report, error) {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of fake time
	defer cancel()
	return p.Play(ctx, o)
}
