package evacuate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// measured gives every region two instances of each front service, and one of
// each behind it, which may have so many requests under way.
func (p *fakePlanet) measured(limit, mean float64) {
	p.services, p.mean = map[string]map[topology.Role]Service{}, mean
	for _, r := range p.t.Regions {
		p.services[r.Name] = map[topology.Role]Service{}
		for _, role := range planned {
			n := 1
			if slices.Contains(scaled, role) {
				n = 2
			}
			p.services[r.Name][role] = Service{Instances: n, Limit: limit, LimitKnown: slices.Contains(scaled, role)}
		}
		p.demand[r.Name] = 100
	}
	p.began = time.Now().Add(-time.Minute)
}

// TestScalesByDemand gives each service what its own demand needs, and not what
// the leaving region happens to have.
func TestScalesByDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		// 20 requests at once of 100 ms each are 200/s for an instance, of which
		// 140 may be planned: a saver with 150/s needs two, and one to spare.
		p.measured(20, 0.1)
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		calls := p.changes()
		for _, want := range []string{"scale us-west license 2", "scale us-west gateway 2", "scale eu-west play 2"} {
			if !slices.Contains(calls, want) {
				t.Errorf("%q is missing: %q", want, calls)
			}
		}
		for _, s := range rep.Capacity.Services {
			if s.PerInstance < 199 || s.PerInstance > 201 || s.Demand < 99 || s.Demand > 101 || s.Used < 199 || s.Used > 201 || !s.Fits {
				t.Errorf("%+v", s)
			}
			if known := s.Default == ""; known != slices.Contains(scaled, topology.Role(s.Role)) {
				t.Errorf("%s: default %q", s.Role, s.Default)
			}
		}
	})
}

// TestSecondEvacuationCountsWhatTheFirstAdded plans where each saver has two more
// of everything from an evacuation before: they are there once, not twice.
func TestSecondEvacuationCountsWhatTheFirstAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		p.measured(20, 0.1) // as in TestScalesByDemand: each needs two of its own, and is to have two on top
		for _, r := range p.t.Regions[1:] {
			for role, s := range p.services[r.Name] {
				s.Instances, s.Extra = s.Instances+2, 2
				p.services[r.Name][role] = s
			}
			e := p.edges[r.Name]
			e.Gateways += 2
			p.edges[r.Name] = e
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		if calls := p.changes(); !slices.Contains(calls, "scale us-west gateway 2") || !slices.Contains(calls, "scale eu-west license 2") {
			t.Errorf("what is wanted on top is not the same as before: %q", calls)
		}
		for _, s := range rep.Capacity.Services {
			if all := s.PerInstance * float64(s.Have); s.Add != 0 || s.Limit != all || s.LimitLessOne != all-2*s.PerInstance {
				t.Errorf("nothing new starts, and yet: %+v", s)
			}
		}
		limit := 0.0
		for _, name := range []string{"us-west", "eu-west"} {
			e := p.edges[name]
			mean := e.BusySeconds / float64(e.Answered)
			if e.Answered == 0 || e.BusySeconds == 0 {
				mean = assumedMean
			}
			limit += float64(e.Concurrency) / mean
		}
		if got := rep.Capacity.Limit; got < 0.99*limit || got > 1.01*limit {
			t.Errorf("the savers' gateways answer %g requests/s, planned are %g", limit, got)
		}
	})
}

// TestLateAnswersAreNoDemand has an instance of everything in the leaving region
// answer only the second look: what it has counted since its start is no load
// that the savers would have to bear.
func TestLateAnswersAreNoDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.measured(20, 0.1)
		p.demand["us-east"], p.rate["us-east"] = 1000, 10_000
		begun := time.Now()
		early := func() bool { return time.Now().Equal(begun) }
		p.onEdge = func(region string, e *Edge) {
			if region == "us-east" && early() {
				e.Gateways, e.ClientRequests = 1, 0
			}
		}
		p.onServices = func(region string, s *Service) {
			if region == "us-east" && early() {
				s.Instances, s.Answered = 0, 0
			}
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", true)
		if err != nil || rep.Capacity.Demand != 0 {
			t.Errorf("demand %g, error %v", rep.Capacity.Demand, err)
		}
		for _, s := range rep.Capacity.Services {
			if s.Demand != 0 || !strings.Contains(s.Default, "came or went") {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestIdleServicesGetASpareOnly does not copy a region that hardly does anything.
func TestIdleServicesGetASpareOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.measured(64, 0.005)
		r, _ := run(p)
		if _, err := r.Failover(t.Context(), "us-east", false); err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(p.changes(), func(c string) bool { return !strings.HasPrefix(c, "scale") })
		want := []string{"scale us-west playback 1", "scale us-west license 1", "scale us-west steering 1", "scale us-west recommend 1"}
		for _, role := range scaled {
			want = append(want, "scale us-west "+string(role)+" 1")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestNothingMeasuredSaysTheDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 3)
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", true)
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Capacity.Services) != len(planned) {
			t.Fatalf("%d services", len(rep.Capacity.Services))
		}
		for _, s := range rep.Capacity.Services {
			if s.Default == "" {
				t.Errorf("%s does not say what it assumes", s.Role)
			}
		}
	})
}

func TestSafePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		r, _ := run(p)
		r.Pace = Safe
		rep, err := r.Failover(t.Context(), "us-east", false)
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Shares) != len(safeShares) || rep.Shares[0] != "1%" || rep.Shares[len(rep.Shares)-1] != "100%" {
			t.Errorf("shares %v", rep.Shares)
		}
		took := 0.0
		for _, s := range rep.Steps {
			if s.Name == "proxy" || s.Name == "dns" { // the last share goes with DNS
				took += s.MS
			}
		}
		if want := float64(len(safeShares)*safePatience) * float64(p.t.Timing.EvacuationStep.D().Milliseconds()); took < want {
			t.Errorf("the shares took %g ms, want at least %g", took, want)
		}
		r, _ = run(p)
		r.Pace = "quick"
		if rep, err := r.Failover(t.Context(), "us-west", false); services.KindOf(err) != services.Invalid || rep.State != Refused {
			t.Errorf("state %s, error %v", rep.State, err)
		}
	})
}

// TestBudgetSpent has a saver fail, or crawl, once it gets a share: the traffic
// moves back although every canary plays.
func TestBudgetSpent(t *testing.T) {
	for name, spend := range map[string]func(*Edge){
		"error":   func(e *Edge) { e.Answered, e.Failed = e.Answered+100, e.Failed+10 },
		"latency": func(e *Edge) { e.Answered, e.BusySeconds = e.Answered+100, e.BusySeconds+300 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 2)
				p.playErr = func(string, float64) error { return nil }
				p.onEdge = func(region string, e *Edge) {
					if region == "us-west" && p.share >= 0.5 {
						p.looks++
						for range p.looks {
							spend(e)
						}
					}
				}
				r, _ := run(p)
				rep, err := r.Failover(t.Context(), "us-east", false)
				if services.KindOf(err) != services.Exhausted || !strings.Contains(err.Error(), name+" budget") || rep.State != "rolled_back" || p.share != 0 {
					t.Errorf("state %s, share %g, error %v", rep.State, p.share, err)
				}
			})
		})
	}
}

// TestAGatewayMissesALook has a gateway with a past not answer as a share is given:
// what failed before is not the share's.
func TestAGatewayMissesALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.onEdge = func(region string, e *Edge) {
			if region != "us-west" {
				return
			}
			e.Answered, e.Failed = 2000, 1000
			if p.share == 0.1 {
				if p.looks++; p.looks == 1 {
					e.Gateways, e.Answered, e.Failed = 1, 1000, 0
				}
			}
		}
		r, _ := run(p)
		if rep, err := r.Failover(t.Context(), "us-east", false); err != nil || rep.State != Done || p.looks < 2 {
			t.Errorf("state %s after %d looks, error %v", rep.State, p.looks, err)
		}
	})
}

func TestColdCachesAreWarmedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.cold["us-west"] = []string{"b"}
		r, _ := run(p)
		if _, err := r.Failover(t.Context(), "us-east", false); err != nil {
			t.Fatal(err)
		}
		calls := p.changes()
		if len(after(after(calls, "warm us-west/b"), "proxy us-east 0.1")) == 0 {
			t.Errorf("calls %q", calls)
		}
	})
}

// TestCachesAreWarmedWhileInstancesStart has instances start only once a cache
// is warm.
func TestCachesAreWarmedWhileInstancesStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.cold["us-west"] = []string{"b"}
		warm := make(chan struct{})
		var once sync.Once
		p.hook = func(call string) {
			switch {
			case strings.HasPrefix(call, "warm "):
				once.Do(func() { close(warm) })
			case strings.HasPrefix(call, "scale "):
				select {
				case <-warm:
				case <-time.After(time.Minute):
					t.Error("no cache is warmed until the instances are there")
				}
			}
		}
		r, _ := run(p)
		if rep, err := r.Failover(t.Context(), "us-east", false); err != nil || !strings.Contains(stepNames(rep), "scale caches flip") {
			t.Fatalf("steps %s, error %v", stepNames(rep), err)
		}
	})
}

// TestWarmingEndsWithTheRun has a cache that does not get warm while instances
// cannot be started.
func TestWarmingEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.cold["us-west"] = []string{"b"}
		p.warming = func(ctx context.Context) { <-ctx.Done() }
		full := errors.New("no memory is left")
		p.fail["scale"] = full
		r, _ := run(p)
		if rep, err := r.Failover(t.Context(), "us-east", false); !errors.Is(err, full) || rep.State != "rolled_back" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
	})
}

// TestFailuresBetweenTwoSharesCount has the savers fail only as a share is given,
// before it is watched.
func TestFailuresBetweenTwoSharesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		failed := uint64(0)
		p.onEdge = func(region string, e *Edge) {
			if region == "us-west" {
				e.Answered, e.Failed = e.Answered+failed, failed
			}
		}
		p.hook = func(call string) {
			if strings.HasPrefix(call, "proxy us-east 0.5") {
				p.mu.Lock()
				failed = 3 * errorsAtLeast
				p.mu.Unlock()
			}
		}
		r, _ := run(p)
		rep, err := r.Failover(t.Context(), "us-east", false)
		if services.KindOf(err) != services.Exhausted || !strings.Contains(err.Error(), "with 50% of the requests") || rep.State != "rolled_back" {
			t.Errorf("state %s, error %v", rep.State, err)
		}
	})
}

// TestBehindIsNotGivenTraffic ends a failback before its clients are back.
func TestBehindIsNotGivenTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlanet(t, 2)
		p.evacuated["us-east"], p.weight = true, 0
		behind := errors.New("it lacks 3 writes")
		p.fail["catch up"] = behind
		r, _ := run(p)
		if _, err := r.Failback(t.Context(), "us-east", false); !errors.Is(err, behind) || p.weight != 0 || !p.evacuated["us-east"] {
			t.Errorf("weight %g, error %v", p.weight, err)
		}
	})
}

// watchFor looks once a second for some time, and returns what was to be
// evacuated, with the second.
func watchFor(s *Sentinel, from, seconds int, at func(second int) []Vitals) map[string]int {
	out := map[string]int{}
	for i := from; i < from+seconds; i++ {
		for _, x := range s.Look(time.Unix(int64(i), 0), at(i)) {
			if x.Evacuate {
				out[x.Region] = i
			}
		}
	}
	return out
}

func TestSentinel(t *testing.T) {
	const rate = 4.0
	well := func(region string, i int) Vitals {
		return Vitals{Region: region, Gateways: 2, Starts: rate * float64(i), Answered: 10 * rate * float64(i)}
	}
	for name, c := range map[string]struct {
		sick func(v *Vitals, i int) // from second 60 on
		want int
	}{
		"well":        {func(*Vitals, int) {}, 0},
		"gateways":    {func(v *Vitals, _ int) { v.Gateways = 0 }, 65},
		"health":      {func(v *Vitals, _ int) { v.Missing = "no kv runs" }, 65},
		"errors":      {func(v *Vitals, i int) { v.Failed = 8 * rate * float64(i-59) }, 65},
		"starts":      {func(v *Vitals, _ int) { v.Starts = rate * 60 }, 68},
		"a hiccup":    {func(v *Vitals, i int) { v.Gateways = map[bool]int{true: 0, false: 2}[i < 63] }, 0},
		"evacuated":   {func(v *Vitals, _ int) { v.Gateways, v.Evacuated = 0, true }, 0},
		"few starts":  {func(v *Vitals, i int) { v.Starts = rate*60 + 0.9*rate*float64(i-60) }, 0},
		"some errors": {func(v *Vitals, i int) { v.Failed = 0.5 * float64(i-59) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := watchFor(NewSentinel(), 0, 100, func(i int) []Vitals {
				a, b := well("us-east", i), well("us-west", i)
				if i >= 60 {
					c.sick(&a, i)
				}
				return []Vitals{a, b}
			})
			if c.want == 0 && len(got) != 0 || c.want != 0 && (got["us-east"] < c.want || got["us-east"] > c.want+4) {
				t.Errorf("evacuated %v, want us-east about second %d", got, c.want)
			}
		})
	}
}

func TestSentinelKeepsTheLastRegion(t *testing.T) {
	got := watchFor(NewSentinel(), 0, 100, func(int) []Vitals { return []Vitals{{Region: "us-east"}, {Region: "us-west"}} })
	if len(got) != 0 {
		t.Errorf("evacuated %v while no region is well", got)
	}
}

// TestSentinelMissesAnAnswer has one of a region's two instances of everything
// not answer a look: its counts since its start are no burst when it is back.
func TestSentinelMissesAnAnswer(t *testing.T) {
	const rate = 2.0
	s := NewSentinel()
	for i := range 120 {
		at := 1000 + float64(i) // it has been running for long
		v := Vitals{Region: "us-east", Gateways: 2, PlayAPIs: 2, Starts: rate * at, Answered: 10 * rate * at, Failed: 400}
		if i == 60 {
			v.Gateways, v.PlayAPIs, v.Starts, v.Answered, v.Failed = 1, 1, v.Starts/2, v.Answered/2, 0
		}
		for _, x := range s.Look(time.Unix(int64(i), 0), []Vitals{v, {Region: "us-west", Gateways: 2}}) {
			if x.Text != "" || x.Evacuate || x.Forecast > 1.01*rate {
				t.Fatalf("second %d: %+v", i, x)
			}
		}
	}
}

// TestSentinelRests evacuates one region, and another only after its rest.
func TestSentinelRests(t *testing.T) {
	s := NewSentinel()
	all := func(sick ...string) func(int) []Vitals {
		return func(int) []Vitals {
			var out []Vitals
			for _, r := range []string{"a", "b", "c"} {
				v := Vitals{Region: r, Gateways: 2}
				if slices.Contains(sick, r) {
					v.Gateways = 0
				}
				out = append(out, v)
			}
			return out
		}
	}
	if got := watchFor(s, 0, 30, all("a")); len(got) != 1 || got["a"] == 0 {
		t.Errorf("evacuated %v, want a", got)
	}
	if got := watchFor(s, 30, 60, all("b")); len(got) != 0 {
		t.Errorf("evacuated %v while it should rest", got)
	}
	if got := watchFor(s, 90, 300, all("b")); got["b"] == 0 {
		t.Errorf("evacuated %v, want b after the rest", got)
	}
}
