package cachecontrol

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// waitFor bounds what is waited for: only a hang takes as long.
const waitFor = time.Minute

func eventually(t testing.TB, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(waitFor)
	tick := time.NewTicker(2 * time.Millisecond)
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

// pipeline remembers the events sent.
type pipeline struct {
	mu   sync.Mutex
	sent []any
	err  error
}

func (p *pipeline) Send(_ context.Context, _, _ string, event any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.sent = append(p.sent, event)
	return nil
}

func (p *pipeline) count(match func(any) bool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.sent {
		if match(e) {
			n++
		}
	}
	return n
}

// planet is cache controls of two regions on one store.
type planet struct {
	t       testing.TB
	kv      *memoryKV
	events  *pipeline
	topo    topology.Topology
	servers map[string]*Server
	stop    map[string]func()
	ahead   atomic.Int64 // of the world's clock, in nanoseconds

	mu      sync.Mutex
	clients map[string]pb.CacheControlClient
}

// now tells the planet's time.
func (p *planet) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// pass lets time pass at once, for everybody on the planet.
func (p *planet) pass(d time.Duration) { p.ahead.Add(int64(d)) }

// client of a region's cache control.
func (p *planet) client(region string) (pb.CacheControlClient, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.clients[region]
	return c, ok
}

// must is the client of a region that was started.
func must(c pb.CacheControlClient, ok bool) pb.CacheControlClient {
	if !ok {
		panic("the region has no cache control")
	}
	return c
}

// expiry is when who does not report is gone: with the planet's time alone,
// however slow the machine is.
const expiry = 10 * waitFor

func newPlanet(t testing.TB) *planet {
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	topo.Timing.CacheControlSync = topology.Duration(20 * time.Millisecond)
	topo.Timing.HealthReport = topology.Duration(50 * time.Millisecond)
	topo.Timing.ReportExpiry, topo.Timing.RPCTimeout = topology.Duration(expiry), topology.Duration(waitFor)
	p := &planet{t: t, kv: newMemoryKV(), events: &pipeline{}, topo: topo, clients: map[string]pb.CacheControlClient{}, servers: map[string]*Server{}, stop: map[string]func(){}}
	return p
}

func (p *planet) start(region string) pb.CacheControlClient {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := New(Deps{
		RPC: l, Region: region, Instance: region + "/a/cachecontrol/1", KV: p.kv, Events: p.events, Regions: p.topo.RegionNames,
		Peers: p.client, Clock: p.now,
		Presign:  func(region, key string) (string, error) { return "http://s3." + region + "/" + key + "?signed", nil },
		Topology: func() topology.Topology { return p.topo }, Tel: telemetry.New(telemetry.Config{Instance: region}), Timing: p.topo.Timing,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	conn, err := grpc.NewClient(l.Addr().String(), append(telemetry.Discard().DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		p.t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("Serve: %v", err)
		}
		conn.Close()
	})
	p.t.Cleanup(stop)
	c := pb.NewCacheControlClient(conn)
	p.servers[region], p.stop[region] = s, stop
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[region] = c
	return c
}

// fakeAppliance speaks an appliance's side of the control channel by hand.
type fakeAppliance struct {
	t       testing.TB
	id      string
	stream  grpc.BidiStreamingClient[pb.ApplianceMessage, pb.ControlMessage]
	cancel  context.CancelFunc
	counter uint64

	mu       sync.Mutex
	messages []*pb.ControlMessage
	err      error
}

func (p *planet) connect(c pb.CacheControlClient, id string, counter uint64, held ...*pb.HeldFile) *fakeAppliance {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	stream, err := c.Connect(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	f := &fakeAppliance{t: p.t, id: id, stream: stream, cancel: cancel, counter: counter}
	for _, i := range p.topo.Instances() {
		if i.ID == id {
			f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Hello{Hello: &pb.Hello{
				Appliance: id, Region: i.Region, Site: i.Site.Name, Kind: string(i.Site.Kind), FillUrl: "http://" + id, ClientUrl: "https://" + id,
				CapacityBytes: uint64(i.Appliance.Capacity), Holdings: &pb.Holdings{Files: held}, Filled: &pb.FillBytes{},
			}}})
		}
	}
	go f.listen()
	return f
}

// listen keeps what the control plane says, until the stream ends.
func (f *fakeAppliance) listen() {
	for {
		m, err := f.stream.Recv()
		f.mu.Lock()
		if err != nil {
			f.err = err
			f.mu.Unlock()
			return
		}
		f.messages = append(f.messages, m)
		f.mu.Unlock()
	}
}

func (f *fakeAppliance) send(m *pb.ApplianceMessage) {
	f.counter++
	m.Counter = f.counter
	if err := f.stream.Send(m); err != nil {
		f.t.Logf("%s: send: %v", f.id, err)
	}
}

func (f *fakeAppliance) report(healthy bool) {
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Report{Report: &pb.Report{Healthy: healthy}}})
}

func (f *fakeAppliance) held(files ...*pb.HeldFile) {
	f.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Held{Held: &pb.Held{Files: files, Source: pb.Source_SOURCE_CACHE, Filled: &pb.FillBytes{Cache: 1}}}})
}

// got waits for a message that matches.
func (f *fakeAppliance) got(what string, match func(*pb.ControlMessage) bool) (found *pb.ControlMessage) {
	f.t.Helper()
	eventually(f.t, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, m := range f.messages {
			if match(m) {
				found = m
				return ""
			}
		}
		return fmt.Sprintf("%s got no %s: %v", f.id, what, f.messages)
	})
	return found
}

func heldFileOf(a *pb.Asset, i int) *pb.HeldFile {
	return &pb.HeldFile{TitleId: a.TitleId, Version: a.Version, Path: a.Files[i].Path, Size: a.Files[i].Size}
}

// watcher collects the events of a Watch stream.
type watcher struct {
	mu     sync.Mutex
	events []*pb.WatchEvent
	states map[string]*pb.ApplianceState
	assets map[string]*pb.Asset
	waits  map[string]*pb.WaitingTitle
	ended  bool
}

func (p *planet) watch(c pb.CacheControlClient) *watcher {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	stream, err := c.Watch(ctx, &pb.WatchRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	w := &watcher{states: map[string]*pb.ApplianceState{}, assets: map[string]*pb.Asset{}, waits: map[string]*pb.WaitingTitle{}}
	go func() {
		for {
			ev, err := stream.Recv()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.events = append(w.events, ev)
			switch {
			case ev.State != nil:
				w.states[ev.State.Hello.Appliance] = ev.State
			case ev.Gone != "":
				delete(w.states, ev.Gone)
			case ev.Asset != nil:
				w.assets[ev.Asset.TitleId] = ev.Asset
				delete(w.waits, ev.Asset.TitleId)
			case ev.Waiting != nil:
				w.waits[ev.Waiting.TitleId] = ev.Waiting
			case ev.SnapshotEnd:
				w.ended = true
			}
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *watcher) until(t testing.TB, ok func() string) {
	t.Helper()
	eventually(t, func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return ok()
	})
}

func (p *planet) publish(c pb.CacheControlClient, a *pb.Asset) {
	p.t.Helper()
	if _, err := c.Publish(p.t.Context(), &pb.PublishRequest{Asset: a}); err != nil {
		p.t.Fatal(err)
	}
}

// knows says "" once the region's cache control knows the appliance.
func (p *planet) knows(region, id string) string {
	r, err := must(p.client(region)).FillStatus(p.t.Context(), &pb.FillStatusRequest{})
	if err != nil {
		return err.Error()
	}
	for _, a := range r.Appliances {
		if a.Name == id {
			return ""
		}
	}
	return fmt.Sprintf("%s does not know %s: %v", region, id, r)
}
