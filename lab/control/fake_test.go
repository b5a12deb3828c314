package control

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/flix-lab/flix/services"
)

// fakeEngine answers what a test tells it to. A func that is nil gives the zero
// answer.
type fakeEngine struct {
	CacheEngine // what of it is called is set by the test
	FaultEngine // likewise

	log      *Log
	up       func(context.Context, UpRequest, Progress) (UpResult, error)
	failover func(context.Context, FailoverRequest, Progress) (Failover, error)
	down     func(context.Context, DownRequest) (DownResult, error)
	status   func(context.Context) (Status, error)
	titles   func(query string) (Titles, error)
	trace    func(id string) (Trace, error)

	mu    sync.Mutex
	calls []string
	spans []Span
}

func (*fakeEngine) Version() string { return "v1.2.3" }

func (*fakeEngine) FailoverWatch(context.Context) (FailoverWatch, error) {
	return FailoverWatch{}, nil
}

func (*fakeEngine) SetFailoverWatch(context.Context, FailoverWatchRequest) (FailoverWatch, error) {
	return FailoverWatch{}, nil
}

func (*fakeEngine) Vitals(context.Context) ([]Vitals, error) { return nil, nil }

func (*fakeEngine) Scale(context.Context) (Scale, error) { return Scale{}, nil }

func (*fakeEngine) SetScale(context.Context, ScaleRequest) (Scale, error) { return Scale{}, nil }

func (f *fakeEngine) called(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
}

func (f *fakeEngine) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func (f *fakeEngine) Up(ctx context.Context, r UpRequest, p Progress) (UpResult, error) {
	return f.up(ctx, r, p)
}
func (f *fakeEngine) Plan(_ context.Context, r UpRequest) (Plan, error) {
	return Plan{Runtime: r.Runtime, Regions: r.Topology.RegionNames()}, nil
}
func (f *fakeEngine) Down(ctx context.Context, r DownRequest) (DownResult, error) {
	return f.down(ctx, r)
}
func (f *fakeEngine) Status(ctx context.Context) (Status, error) { return f.status(ctx) }
func (f *fakeEngine) World(context.Context) (World, error)       { return World{Lab: "fake"}, nil }
func (f *fakeEngine) FillStatus(context.Context) (FillStatus, error) {
	return FillStatus{OriginEgressRatio: 1}, nil
}
func (f *fakeEngine) FillRun(_ context.Context, r FillRunRequest) (FillRunResult, error) {
	if r.Now && r.Deep {
		return FillRunResult{Appliances: 7}, nil
	}
	return FillRunResult{}, nil
}
func (f *fakeEngine) FillPlan(_ context.Context, r FillPlanRequest) (FillPlan, error) {
	return FillPlan{LeftOff: r.Limit, Moves: []FillMove{{Title: r.Title, From: r.Scope}}}, nil
}
func (f *fakeEngine) FillExplain(_ context.Context, r FillExplainRequest) (FillExplained, error) {
	return FillExplained{Title: r.Title, Appliance: r.Appliance}, nil
}
func (f *fakeEngine) SetFillRule(_ context.Context, r FillRule) (FillRules, error) {
	return FillRules{Rules: []FillRule{r}}, nil
}
func (f *fakeEngine) Titles(_ context.Context, q string) (Titles, error) { return f.titles(q) }
func (f *fakeEngine) AddTitle(_ context.Context, r AddTitleRequest, p Progress) (AddTitleResult, error) {
	p(Event{Kind: "title.step", Text: r.File})
	return AddTitleResult{Title: Title{Name: r.Name}}, nil
}
func (f *fakeEngine) Jobs(context.Context) ([]Job, error) { return []Job{{ID: "j1"}}, nil }
func (f *fakeEngine) Failover(ctx context.Context, r FailoverRequest, p Progress) (Failover, error) {
	return f.failover(ctx, r, p)
}
func (f *fakeEngine) Failback(_ context.Context, r FailoverRequest, _ Progress) (Failover, error) {
	return Failover{Verb: "failback", Region: r.Region, DryRun: r.DryRun}, nil
}
func (f *fakeEngine) CancelMove(_ context.Context, r FailoverRequest) (Failover, error) {
	return Failover{Region: r.Region, State: "rolled_back"}, nil
}
func (f *fakeEngine) FailoverStatus(context.Context) ([]Failover, error) {
	return []Failover{{ID: "f1"}}, nil
}
func (f *fakeEngine) Trace(_ context.Context, id string) (Trace, error) { return f.trace(id) }
func (f *fakeEngine) Sessions(context.Context) ([]Session, error) {
	return []Session{{Session: "s1"}}, nil
}
func (f *fakeEngine) Record(_ context.Context, e Event, spans []Span) error {
	f.called("record " + e.Kind)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spans = append(f.spans, spans...)
	return nil
}
func (f *fakeEngine) StopInstance(_ context.Context, n string) error {
	f.called("stop " + n)
	return nil
}
func (f *fakeEngine) StartInstance(_ context.Context, n string) error {
	f.called("start " + n)
	return nil
}
func (*fakeEngine) WAN(context.Context) (WAN, error) { return WAN{}, nil }

func (*fakeEngine) Commands(_ context.Context, q CommandQuery) (Commands, error) {
	return Commands{Commands: []Command{{Name: q.Name, Region: q.Region, Role: q.Role, Instance: q.Instance}}}, nil
}

func (*fakeEngine) SetCommand(_ context.Context, r CommandRequest) (Commands, error) {
	return Commands{Commands: []Command{{Name: r.Name, Properties: r.Properties}}}, nil
}

func (*fakeEngine) Cut(context.Context, CutRequest) (WAN, error) { return WAN{}, nil }

func (*fakeEngine) Check(_ context.Context, r CheckRequest, p Progress) (Check, error) {
	p(Event{Kind: "check.step", Text: r.Region})
	return Check{Region: r.Region, Kinds: []CheckKind{{Kind: "global", Lost: 1}}},
		services.Errorf(services.Internal, "one is lost").WithReason(services.ReasonDataLost)
}

func (f *fakeEngine) KillInstance(_ context.Context, n string) error {
	f.called("kill " + n)
	return nil
}
func (f *fakeEngine) Halt(_ context.Context, _ struct{}, p Progress) (Switched, error) {
	p(Event{Kind: "stop.step", Text: "stores"})
	return Switched{State: "stopped", Instances: []string{"us-east/a/kv/1"}}, nil
}
func (f *fakeEngine) Resume(context.Context, struct{}, Progress) (Switched, error) {
	return Switched{State: "running"}, services.Errorf(services.Conflict, "it runs")
}
func (f *fakeEngine) Diff(context.Context) (Diff, error) {
	return Diff{Lab: "fake", Differences: []Difference{{Kind: "missing", Of: "instance", Name: "us-east/a/kv/1"}}}, nil
}
func (f *fakeEngine) SaveSnapshot(_ context.Context, r SnapshotRequest, _ Progress) (Snapshot, error) {
	return Snapshot{Name: r.Name, Parts: 2}, nil
}
func (f *fakeEngine) RegistryList(_ context.Context, region string) (RegistryList, error) {
	return RegistryList{Registries: []RegistryServer{{Region: region}}}, nil
}
func (f *fakeEngine) RegistryRecord(_ context.Context, n string) (RegistryRecord, error) {
	return RegistryRecord{"instanceId": n}, nil
}
func (f *fakeEngine) RegistryWhy(_ context.Context, n string) (RegistryWhy, error) {
	return RegistryWhy{ID: n}, nil
}
func (f *fakeEngine) RegistryChange(_ context.Context, r RegistryChange) (RegistryWhy, error) {
	f.called("registry " + r.Instance + " " + r.Status)
	return RegistryWhy{ID: r.Instance, Status: r.Status}, nil
}
func (f *fakeEngine) RegistryPreserve(_ context.Context, r RegistryPreserve) (RegistryList, error) {
	f.called("preserve " + r.App + " " + r.Mode)
	return RegistryList{}, nil
}
func (f *fakeEngine) Log() *Log { return f.log }

// serve runs a daemon's API on a real unix socket. end stops it and waits; it
// also runs at the end of the test.
func serve(t *testing.T, e *fakeEngine, onDown func()) (c *Client, end func()) {
	t.Helper()
	dir := t.TempDir()
	if e.log == nil {
		l, err := OpenLog(filepath.Join(dir, "events.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		e.log = l
	}
	socket := filepath.Join(dir, "d.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	down := func() {
		if onDown != nil {
			onDown()
		}
		cancel()
	}
	go func() { done <- Serve(ctx, ln, e, down) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(end)
	return NewClient(socket), end
}

func (*fakeEngine) LoadRoutes(_ context.Context, r LoadRoutesRequest) (LoadedRoutes, error) {
	return LoadedRoutes{Routes: 1, Places: []string{r.File}}, nil
}
func (*fakeEngine) SteerSessions(context.Context) (BGPSessions, error) {
	return BGPSessions{Sessions: []BGPSession{{Appliance: "us-east/x/oca/1"}}}, nil
}
func (*fakeEngine) SteerMisses(_ context.Context, region string) (Misses, error) {
	return Misses{Decisions: map[string]uint64{region: 1}}, nil
}
func (f *fakeEngine) Explain(_ context.Context, r SteerRequest) (Explained, error) {
	return Explained{ClientIP: r.IP, TitleID: r.Title, Error: r.Region}, nil
}

func (f *fakeEngine) WhatIf(_ context.Context, r SteerRequest) (WhatIf, error) {
	return WhatIf{Lost: r.Lose}, nil
}
