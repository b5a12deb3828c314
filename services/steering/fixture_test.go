package steering_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	ccpb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/steering"
	pb "github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeControl is a cache control that says what a test tells it to.
type fakeControl struct {
	ccpb.UnimplementedCacheControlServer
	mu       sync.Mutex
	snapshot []*ccpb.WatchEvent
	streams  map[*said]struct{}
	watched  int
}

// said is what one stream still has to say; more is there when it is told.
type said struct {
	events []*ccpb.WatchEvent
	more   chan struct{}
}

func (s *said) add(events ...*ccpb.WatchEvent) {
	s.events = append(s.events, events...)
	select {
	case s.more <- struct{}{}:
	default: // it will look anyway
	}
}

func (f *fakeControl) Watch(_ *ccpb.WatchRequest, stream grpc.ServerStreamingServer[ccpb.WatchEvent]) error {
	s := &said{more: make(chan struct{}, 1)}
	f.mu.Lock()
	s.add(f.snapshot...)
	s.add(&ccpb.WatchEvent{SnapshotEnd: true})
	f.streams[s] = struct{}{}
	f.watched++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.streams, s)
		f.mu.Unlock()
	}()
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-s.more:
		}
		f.mu.Lock()
		events := s.events
		s.events = nil
		f.mu.Unlock()
		for _, ev := range events {
			if err := stream.Send(ev); err != nil {
				return err
			}
		}
	}
}

// tell sends events to whoever watches, and to later watchers first.
func (f *fakeControl) tell(events ...*ccpb.WatchEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot = append(f.snapshot, events...)
	for s := range f.streams {
		s.add(events...)
	}
}

func (f *fakeControl) watches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watched
}

// forget makes later snapshots empty.
func (f *fakeControl) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot = nil
}

// fixture is a steering instance fed by a fake cache control over sockets.
type fixture struct {
	t       *testing.T
	control *fakeControl
	addr    string // of the fake
	srv     *grpc.Server
	tel     *telemetry.Telemetry
	client  pb.SteeringClient
}

// patience bounds what is waited for: only a hang takes as long. A report that
// has so much time does not go stale, however slow the machine is.
const patience = time.Minute

// start runs a steering instance for which a report is stale after so long.
func start(t *testing.T, expiry time.Duration) *fixture {
	t.Helper()
	timing := topology.LabTiming()
	timing.ReportExpiry = topology.Duration(expiry)
	topo, err := topology.Preset(3)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, control: &fakeControl{streams: map[*said]struct{}{}}, addr: addresstest.Host(t) + ":0", tel: telemetry.Discard()}
	f.serveControl()
	cc := dial(t, f.addr)
	l := listen(t, "127.0.0.1:0")
	s, err := steering.New(steering.Deps{RPC: l, CacheControl: ccpb.NewCacheControlClient(cc), Topology: topo, Region: "us-east", Tel: f.tel, Timing: timing})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn := dial(t, l.Addr().String())
	f.client = pb.NewSteeringClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		_ = cc.Close()
		f.srv.Stop()
	})
	return f
}

// listen binds an address; where there is but one of loopback, somebody else may
// hold one of before for a moment.
func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(patience); ; {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l
		}
		select {
		case <-late:
			t.Fatal(err)
		case <-poll.C:
		}
	}
}

func (f *fixture) serveControl() {
	f.t.Helper()
	l := listen(f.t, f.addr)
	f.addr = l.Addr().String()
	f.srv = grpc.NewServer()
	ccpb.RegisterCacheControlServer(f.srv, f.control)
	go func(s *grpc.Server) { _ = s.Serve(l) }(f.srv)
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	opts := append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 20 * time.Millisecond}, MinConnectTimeout: time.Second,
	}))
	c, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// title is the fixture's asset of two files.
const title = "tt-harbor-lights"

func asset(version uint64) *ccpb.WatchEvent {
	return &ccpb.WatchEvent{Asset: &ccpb.Asset{TitleId: title, Version: version, Files: []*ccpb.File{{Path: "v1.mp4"}, {Path: "a1.mp4"}}}}
}

// box is an appliance of a test.
type box struct {
	id, region, site, kind string
	prefixes               []string
	paths                  []string
	version                uint64
	sick                   string
	load                   float64
	counter                uint64
	reported               time.Time
}

func (b box) event() *ccpb.WatchEvent {
	st := &ccpb.ApplianceState{
		Hello: &ccpb.Hello{
			Appliance: b.id, Region: b.region, Site: b.site, Kind: b.kind, Prefixes: b.prefixes,
			ClientUrl: "https://" + b.site + ".oc.flix.test:1", BandwidthBps: 1e9,
		},
		Report:  &ccpb.Report{Load: b.load, Healthy: b.sick == "", Reason: b.sick},
		Counter: b.counter, ReportedUnixMs: time.Now().UnixMilli(),
	}
	if !b.reported.IsZero() {
		st.ReportedUnixMs = b.reported.UnixMilli()
	}
	if len(b.paths) > 0 {
		st.Titles = []*ccpb.TitleHeld{{TitleId: title, Version: max(1, b.version), Paths: b.paths}}
		st.HeldFiles = uint32(len(b.paths))
	}
	return &ccpb.WatchEvent{State: st}
}

var whole = []string{"a1.mp4", "v1.mp4"}

func ispBox(n int) box {
	return box{
		id: fmt.Sprintf("us-east/us-east-isp-1/oca/%d", n), region: "us-east", site: "us-east-isp-1", kind: "isp",
		prefixes: []string{"198.18.0.0/20", "2001:db8::/48"}, paths: whole, counter: 1,
	}
}

func ixBox(region string, n int, prefixes ...string) box {
	return box{id: fmt.Sprintf("%s/%s-ix/oca/%d", region, region, n), region: region, site: region + "-ix", kind: "exchange", prefixes: prefixes, paths: whole, counter: 1}
}

// planet is three regions' worth of appliances.
func planet() []*ccpb.WatchEvent {
	other := ispBox(1)
	other.id, other.site, other.prefixes = "us-east/us-east-isp-2/oca/1", "us-east-isp-2", []string{"198.18.16.0/20"}
	return []*ccpb.WatchEvent{
		asset(1), ispBox(1).event(), ispBox(2).event(), other.event(),
		ixBox("us-east", 1, "198.18.0.0/20", "198.18.16.0/20").event(), ixBox("us-east", 2, "198.18.0.0/20").event(),
		ixBox("us-west", 1, "198.18.64.0/20").event(), ixBox("eu-west", 1, "198.18.128.0/20").event(),
	}
}

func (f *fixture) rank(req *pb.RankRequest) (*pb.RankReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if req.TitleId == "" {
		req.TitleId = title
	}
	if req.ClientIp == "" {
		req.ClientIp = "198.18.0.7"
	}
	return f.client.Rank(ctx, req)
}

// until asks until check accepts the answer.
func (f *fixture) until(req *pb.RankRequest, check func(*pb.RankReply, error) error) *pb.RankReply {
	f.t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		r, err := f.rank(req)
		if last = check(r, err); last == nil {
			return r
		}
		pause := time.NewTimer(2 * time.Millisecond)
		<-pause.C
	}
	f.t.Fatal(last)
	return nil
}

func ids(r *pb.RankReply) []string {
	var out []string
	for _, c := range r.GetCandidates() {
		out = append(out, c.GetAppliance())
	}
	return out
}

func offers(n int) func(*pb.RankReply, error) error {
	return func(r *pb.RankReply, err error) error {
		if err != nil {
			return err
		}
		if got := len(r.GetCandidates()); got != n {
			return fmt.Errorf("%d candidates, want %d: %v", got, n, ids(r))
		}
		return nil
	}
}

func fails(kind services.Kind, reason string) func(*pb.RankReply, error) error {
	return func(r *pb.RankReply, err error) error {
		if err == nil {
			return fmt.Errorf("an answer with %v, want %s", ids(r), kind)
		}
		if services.KindOf(err) != kind || services.ReasonOf(err) != reason {
			return fmt.Errorf("kind %s, reason %q, want %s, %q: %w", services.KindOf(err), services.ReasonOf(err), kind, reason, err)
		}
		return nil
	}
}
