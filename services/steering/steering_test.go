package steering_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
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

func TestOrder(t *testing.T) {
	f := start(t, patience)
	f.control.tell(planet()...)
	r := f.until(&pb.RankRequest{}, offers(6))
	got := r.GetCandidates()
	sites := make([]string, len(got))
	ranks := make([]uint32, len(got))
	for i, c := range got {
		sites[i], ranks[i] = c.GetSite(), c.GetRank()
	}
	wantSites := []string{"us-east-isp-1", "us-east-isp-1", "us-east-ix", "us-east-ix", "us-west-ix", "eu-west-ix"}
	if !slices.Equal(sites, wantSites) || !slices.Equal(ranks, []uint32{0, 0, 1, 1, 2, 3}) {
		t.Errorf("sites %v, ranks %v", sites, ranks)
	}
	if c := got[0]; c.GetKind() != "isp" || c.GetRegion() != "us-east" || c.GetUrl() == "" || got[4].GetKind() != "exchange" {
		t.Errorf("first candidate %v", c)
	}
	if r.GetVersion() != 1 {
		t.Errorf("version %d", r.GetVersion())
	}
	// The other family, a network that nobody announces, and a mapped address.
	for ip, first := range map[string]string{
		"2001:db8::1": "us-east-isp-1", "203.0.113.9": "us-east-ix", "198.18.130.1": "eu-west-ix", "::ffff:198.18.0.9": "us-east-isp-1",
	} {
		r, err := f.rank(&pb.RankRequest{ClientIp: ip})
		if err != nil || r.GetCandidates()[0].GetSite() != first {
			t.Errorf("%s: %v, %v, want %s first", ip, ids(r), err, first)
		}
	}
	if r, err := f.rank(&pb.RankRequest{Max: 3}); err != nil || len(r.GetCandidates()) != 3 {
		t.Errorf("max 3: %v, %v", ids(r), err)
	}
	if _, err := f.rank(&pb.RankRequest{ClientIp: "nobody"}); services.KindOf(err) != services.Invalid {
		t.Errorf("client nobody: %v", err)
	}
}

func TestLongestPrefixFirst(t *testing.T) {
	f := start(t, patience)
	exact := ispBox(3)
	exact.prefixes = []string{"198.18.0.0/24"}
	f.control.tell(append(planet(), exact.event())...)
	r := f.until(&pb.RankRequest{}, offers(7))
	if ids(r)[0] != exact.id || r.GetCandidates()[1].GetRank() != 1 {
		t.Errorf("%v", r.GetCandidates())
	}
}

func TestFilters(t *testing.T) {
	f := start(t, patience)
	sick, old, part, gone := ispBox(1), ispBox(2), ispBox(3), ispBox(4)
	sick.sick = "disk is slow"
	old.reported = time.Now().Add(-time.Hour)
	part.paths = whole[:1]
	f.control.tell(asset(1), sick.event(), old.event(), part.event(), gone.event(), ixBox("us-east", 1, "198.18.0.0/20").event(), ixBox("us-east", 2, "198.18.0.0/20").event())
	f.until(&pb.RankRequest{}, offers(3))
	f.control.tell(&ccpb.WatchEvent{Gone: gone.id})
	f.until(&pb.RankRequest{}, offers(2))
	broken := ixBox("us-east", 2).id
	r := f.until(&pb.RankRequest{Explain: true, Exclude: []string{broken}}, offers(1))
	want := map[string]string{sick.id: "healthy", old.id: "fresh", part.id: "content", broken: "exclude"}
	for _, d := range r.GetDecisions() {
		// The routes of what is gone are taken out a moment after its content.
		if d.GetStruck() && d.GetAppliance() != gone.id {
			if want[d.GetAppliance()] != d.GetFilter() || d.GetWhy() == "" {
				t.Errorf("struck: %v", d)
			}
			delete(want, d.GetAppliance())
		}
	}
	if len(want) > 0 {
		t.Errorf("no decision recorded for %v", want)
	}
	if n := counter(t, f.tel, "steering_misses_total", "cause", "H"); n == 0 {
		t.Error("no miss was blamed on health")
	}
	// What is missing arrives, the sick recovers, the old reports again.
	part.paths, part.counter = whole, 2
	sick.sick, sick.counter = "", 2
	old.reported, old.counter = time.Time{}, 2
	f.control.tell(part.event(), sick.event(), old.event())
	f.until(&pb.RankRequest{}, offers(5))
}

// Whoever asks by turns is told to come back soon while somebody near is not well.
func TestUnsettled(t *testing.T) {
	f := start(t, patience)
	is := func(unsettled bool) func(*pb.RankReply, error) error {
		return func(r *pb.RankReply, err error) error {
			if err == nil && r.GetUnsettled() != unsettled {
				err = fmt.Errorf("unsettled %v, want %v", r.GetUnsettled(), unsettled)
			}
			return err
		}
	}
	one, two := ispBox(1), ispBox(2)
	f.control.tell(asset(1), one.event(), two.event())
	f.until(&pb.RankRequest{}, is(false))
	two.sick, two.counter = "disk is slow", 2
	f.control.tell(two.event())
	f.until(&pb.RankRequest{}, is(true))
	f.until(&pb.RankRequest{Explain: true}, is(true))
	two.sick, two.counter = "", 3
	f.control.tell(two.event())
	f.until(&pb.RankRequest{}, is(false))
	one.load, one.counter = 1, 2
	f.control.tell(one.event())
	f.until(&pb.RankRequest{}, is(true))
}

// A title that cache control withholds is refused with what it waits for, until
// it is told of.
func TestTitleThatIsNotLive(t *testing.T) {
	f := start(t, patience)
	f.control.tell(ispBox(1).event(), &ccpb.WatchEvent{Waiting: &ccpb.WaitingTitle{TitleId: title, MinSites: 3}})
	says := func(text string) func(*pb.RankReply, error) error {
		return func(r *pb.RankReply, err error) error {
			if bad := fails(services.Conflict, services.ReasonNotLive)(r, err); bad != nil || strings.Contains(err.Error(), text) {
				return bad
			}
			return fmt.Errorf("%w does not say %q", err, text)
		}
	}
	f.until(&pb.RankRequest{}, says("before 3 sites hold all of it"))
	f.control.tell(&ccpb.WatchEvent{Waiting: &ccpb.WaitingTitle{TitleId: title, AvailableUnixMs: time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()}})
	f.until(&pb.RankRequest{}, says("its date is 2100-01-02T03:04:05Z"))
	if n := counter(t, f.tel, "steering_decisions_total", "result", "not_live"); n == 0 {
		t.Error("the refusals are not counted")
	}
	f.control.tell(asset(1))
	f.until(&pb.RankRequest{}, offers(1))
}

func TestNoReplica(t *testing.T) {
	f := start(t, patience)
	empty := ispBox(1)
	empty.paths = nil
	f.control.tell(asset(1), empty.event())
	f.until(&pb.RankRequest{}, fails(services.NotFound, services.ReasonNoReplica))
	f.until(&pb.RankRequest{TitleId: "tt-unheard-of"}, fails(services.NotFound, services.ReasonNoReplica))
	full := ispBox(1)
	full.counter = 2
	f.control.tell(full.event())
	f.until(&pb.RankRequest{}, offers(1))
	// A newer version is held by nobody until it has been filled.
	f.control.tell(asset(2))
	f.until(&pb.RankRequest{}, fails(services.NotFound, services.ReasonNoReplica))
	full.version, full.counter = 2, 3
	f.control.tell(full.event())
	if r := f.until(&pb.RankRequest{}, offers(1)); r.GetVersion() != 2 {
		t.Errorf("version %d, want 2", r.GetVersion())
	}
}

// A client that found broken whoever may serve is offered them again: it has
// nothing better, and its refusals are no failure of steering. One that is sick
// stays out.
func TestExcludingEverybodyExcludesNobody(t *testing.T) {
	f := start(t, patience)
	first, second, sick := ispBox(1), ispBox(2), ispBox(3)
	sick.sick = "disk is slow"
	f.control.tell(asset(1), first.event(), second.event(), sick.event())
	f.until(&pb.RankRequest{}, offers(2))
	all := []string{first.id, second.id, sick.id}
	r := f.until(&pb.RankRequest{Exclude: all, Explain: true}, offers(2))
	for _, d := range r.GetDecisions() {
		if d.GetStruck() != (d.GetAppliance() == sick.id && d.GetFilter() == "healthy") {
			t.Errorf("%v", d)
		}
		if d.GetFilter() == "exclude" && d.GetWhy() == "" {
			t.Errorf("nothing is said of the exclusion: %v", d)
		}
	}
	if n := counter(t, f.tel, "steering_decisions_total", "result", "excluded"); n == 0 {
		t.Error("the decision is not counted as one against the client's word")
	}
	// While one is left it is the only one.
	if r := f.until(&pb.RankRequest{Exclude: []string{first.id}}, offers(1)); ids(r)[0] != second.id {
		t.Errorf("%v, want %s alone", ids(r), second.id)
	}
	first.sick, first.counter, second.sick, second.counter = "disk is slow", 2, "disk is slow", 2
	f.control.tell(first.event(), second.event())
	f.until(&pb.RankRequest{Exclude: all}, fails(services.Unavailable, services.ReasonNoReplica))
}

// Cache control hides the titles that an appliance sheds; one that sheds all it
// holds gets no viewer.
func TestAnApplianceThatShedsEverythingIsSpared(t *testing.T) {
	f := start(t, patience)
	tired, other := ispBox(1), ispBox(2)
	f.control.tell(asset(1), tired.event(), other.event())
	f.until(&pb.RankRequest{}, offers(2))
	tired.counter = 2
	hidden := tired.event()
	hidden.State.Titles = nil // its files are still counted
	f.control.tell(hidden)
	if r := f.until(&pb.RankRequest{}, offers(1)); ids(r)[0] != other.id {
		t.Errorf("%v, want %s", ids(r), other.id)
	}
}

// Old reports that cache control repeats do not make an appliance fresh.
func TestStaleReport(t *testing.T) {
	f := start(t, 300*time.Millisecond)
	dead, live := ispBox(1), ispBox(2)
	f.control.tell(asset(1))
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		bad := offers(2)(r, err)
		if bad != nil { // they report until both are offered
			dead.counter, dead.reported = dead.counter+1, time.Now()
			live.counter++
			f.control.tell(live.event(), dead.event())
		}
		return bad
	})
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		live.counter++
		f.control.tell(live.event(), dead.event())
		if err == nil && slices.Equal(ids(r), []string{live.id}) {
			return nil
		}
		return errors.Join(errors.New("the dead is still offered"), err)
	})
}

// TestReportsHaveTimeToCome knows only old reports when cache control comes in
// reach: appliances are offered all the same until they had the time to report,
// and the answer is said to be stale.
func TestReportsHaveTimeToCome(t *testing.T) {
	f := start(t, patience)
	old := ispBox(1)
	old.reported = time.Now().Add(-time.Hour)
	f.control.tell(asset(1), old.event())
	f.until(&pb.RankRequest{}, offers(1))
	if n := counter(f.t, f.tel, "steering_decisions_total", "result", "stale"); n == 0 {
		t.Error("the answer is not said to be stale")
	}
	fresh := ispBox(2)
	fresh.counter = 2
	f.control.tell(fresh.event())
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		if err == nil && !slices.Equal(ids(r), []string{fresh.id}) {
			err = fmt.Errorf("%v, want the fresh one alone", ids(r))
		}
		return err
	})
}

// A cache control that is away takes nothing with it, and one that comes back
// with an empty memory neither.
func TestCacheControlAway(t *testing.T) {
	f := start(t, 250*time.Millisecond)
	var told uint64
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		bad := offers(6)(r, err)
		if bad != nil { // they report until all are offered
			told++
			events := planet()
			for _, ev := range events {
				if ev.State != nil {
					ev.State.Counter = told
				}
			}
			f.control.tell(events...)
		}
		return bad
	})
	f.srv.Stop()
	f.until(&pb.RankRequest{Explain: true}, func(r *pb.RankReply, err error) error {
		if err == nil {
			err = offers(6)(r, err)
		}
		if err == nil && counter(f.t, f.tel, "steering_decisions_total", "result", "stale") == 0 {
			err = errors.New("the answer is not yet said to be stale")
		}
		return err
	})
	f.control.forget()
	before := f.control.watches()
	f.serveControl()
	f.until(&pb.RankRequest{}, func(*pb.RankReply, error) error {
		if f.control.watches() == before {
			return errors.New("not connected again")
		}
		return nil
	})
	again := ispBox(1)
	again.counter = told
	f.until(&pb.RankRequest{}, func(r *pb.RankReply, err error) error {
		bad := offers(1)(r, err)
		if bad != nil {
			again.counter++
			f.control.tell(again.event())
		}
		return bad
	})
}

func TestNotReady(t *testing.T) {
	f := start(t, patience)
	f.srv.Stop()
	_, err := f.rank(&pb.RankRequest{})
	if k := services.KindOf(err); k != services.Unavailable && k != services.NotFound {
		t.Errorf("before the first snapshot: %v", err)
	}
}

// Clients spread over a site, and each stays with its appliance.
func TestSpread(t *testing.T) {
	f := start(t, patience)
	events := []*ccpb.WatchEvent{asset(1)}
	for n := range 4 {
		events = append(events, ispBox(n+1).event())
	}
	f.control.tell(events...)
	f.until(&pb.RankRequest{}, offers(4))
	first := map[string]int{}
	for c := range 400 {
		ip := fmt.Sprintf("198.18.%d.%d", c/100, c%100+1)
		a, err := f.rank(&pb.RankRequest{ClientIp: ip})
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.rank(&pb.RankRequest{ClientIp: ip, Exclude: ids(a)[3:]})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(ids(a)[:3], ids(b)) {
			t.Fatalf("%s: %v, then %v without the last", ip, ids(a), ids(b))
		}
		first[ids(a)[0]]++
	}
	for id, n := range first {
		if n < 70 || n > 130 {
			t.Errorf("%s is first for %d of 400 clients, want about 100", id, n)
		}
	}
}

func counter(t *testing.T, tel *telemetry.Telemetry, name, label, value string) float64 {
	t.Helper()
	families, err := tel.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
