package experiment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// stage is a lab and its viewers in one: plays take a second, and fail while a
// fault of calls is in force for the client.
type stage struct {
	t topology.Topology

	mu      sync.Mutex
	active  map[string]fault.Request
	ended   []string
	viewers []Viewer
	refuse  error
	runErr  error
	length  time.Duration // of a play
}

func newStage(t *testing.T) *stage {
	topo, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	return &stage{t: topo, active: map[string]fault.Request{}, length: time.Second}
}

func (s *stage) Topology() topology.Topology { return s.t }

// Title knows Harbor Lights alone.
func (s *stage) Title(_ context.Context, name string) error {
	if name != "Harbor Lights" {
		return services.Errorf(services.NotFound, "there is no title %q", name).WithRemedy("flix title ls lists what there is")
	}
	return nil
}

func (s *stage) Plan(context.Context, fault.Request) error { return s.refuse }
func (s *stage) Sessions(context.Context) (map[string]bool, error) {
	return map[string]bool{"seen": true}, nil
}

func (s *stage) RunFault(_ context.Context, r fault.Request) (fault.Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runErr != nil {
		return fault.Fault{}, s.runErr
	}
	s.active["f-1"] = r
	return fault.Fault{ID: "f-1", Kind: r.Kind, Target: r.Target, Until: time.Now().Add(r.TTL), Effect: fault.Effect{Down: []string{"x"}}}, nil
}

func (s *stage) StopFault(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.active, id)
	s.ended = append(s.ended, id)
	return nil
}

func (s *stage) Commands(context.Context) (map[string]map[string]uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]map[string]uint64{"GetLicense": {"failure": uint64(len(s.ended))}}, nil
}

func (s *stage) Play(ctx context.Context, v Viewer) Play {
	s.mu.Lock()
	s.viewers = append(s.viewers, v)
	bad := false
	for _, r := range s.active {
		bad = r.Params["clients"] == ""
		for n := range strings.SplitSeq(r.Params["clients"], "|") {
			if p, err := netip.ParsePrefix(n); err == nil && p.Contains(v.Client) {
				bad = true
			}
		}
	}
	s.mu.Unlock()
	p := Play{Session: "seen", DelayMS: 20, PlayedS: v.Seconds, AnsweredBy: v.Region}
	if err := sleep(ctx, s.length); err != nil {
		p.Error = err.Error()
	} else if bad {
		p.Error = "no licence"
	}
	return p
}

func try(t *testing.T, s *stage, change func(*Experiment)) (Result, error) {
	t.Helper()
	e, err := parse(strings.NewReader(good), "a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	e.Phases = Phases{Baseline: Duration(10 * time.Second), Fault: Duration(20 * time.Second), Recovery: Duration(5 * time.Second)}
	e.Abort = Abort{}
	e.Traffic.Speed = 6
	change(&e)
	return Run(t.Context(), e, Config{Lab: s, Viewers: s})
}

func TestHypothesisFailsForTheGroupThatSuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		res, err := try(t, s, func(e *Experiment) {
			e.Groups.By = "client"
			e.Method = []Step{{Kind: "fail-call", Target: "license"}}
			e.Expect = []Expectation{{See: "command", Command: "GetLicense", Event: "failure", Bound: Bound{Min: new(float64)}}}
		})
		if err != nil {
			t.Fatal(err)
		}
		x, c := res.Groups[treated], res.Groups[control]
		if res.Verdict != "fails" || x.Failed == 0 || c.Failed != 0 || c.Plays == 0 || res.ErrorDifference.Low <= 0 || res.Confidence > 0.5 {
			t.Errorf("%s: %s; %+v, %+v", res.Verdict, res.Reason, x, c)
		}
		if res.Recovery.Failed != 0 || res.Baseline.Failed != 0 || len(s.active) != 0 {
			t.Errorf("before %+v, after %+v, left %v", res.Baseline, res.Recovery, s.active)
		}
		if x.StartsPerSecond == c.StartsPerSecond || !strings.Contains(res.Reason, "error_ratio") {
			t.Errorf("%s", res.Reason)
		}
		var page bytes.Buffer
		if err := res.HTML(&page); err != nil || !strings.Contains(page.String(), "what it shows") || strings.Contains(page.String(), "http://") {
			t.Errorf("the page: %v", err)
		}
	})
}

func TestHypothesisHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		res, err := try(t, s, func(e *Experiment) {
			e.Groups.By = "client"
			e.Method = []Step{{Kind: "fail-call", Target: "license", Params: map[string]string{"clients": "203.0.113.0/24"}}}
			one := 1.0
			e.Expect = []Expectation{{See: "sessions_seen", Bound: Bound{Min: &one}}}
		})
		if err != nil {
			t.Fatal(err)
		}
		if res.Verdict != "holds" || !(res.Confidence > 0.9) || len(res.Checks) != 2 || !slices.Equal(s.ended, []string{"f-1"}) {
			t.Errorf("%s: %s (%.3f), %+v", res.Verdict, res.Reason, res.Confidence, res.Checks)
		}
	})
}

func TestAbortEndsTheFaultAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, begun := newStage(t), time.Now()
		res, err := try(t, s, func(e *Experiment) { e.Abort = Abort{ErrorRatio: 0.5, Plays: 4} })
		if err != nil || res.Verdict != "aborted" || len(s.active) != 0 {
			t.Errorf("%s: %s (%v), left %v", res.Verdict, res.Reason, err, s.active)
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("it went on for %s", took)
		}
	})
}

func TestTooFewPlays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		res, err := try(t, newStage(t), func(e *Experiment) {
			e.Traffic.Viewers, e.Traffic.Pause = 1, Duration(time.Hour)
			e.Method[0].Params = map[string]string{}
		})
		if err != nil || res.Verdict != "inconclusive" {
			t.Errorf("%s: %s (%v)", res.Verdict, res.Reason, err)
		}
	})
}

func TestRefusedBeforeTraffic(t *testing.T) {
	s := newStage(t)
	s.refuse = errors.New("it leaves no region")
	if _, err := try(t, s, func(*Experiment) {}); !errors.Is(err, s.refuse) || len(s.viewers) != 0 {
		t.Errorf("%v, and %d viewers played", err, len(s.viewers))
	}
}

// TestSeed: the same seed asks for the same viewers, another for others, and no
// client is of both groups.
func TestSeed(t *testing.T) {
	s := newStage(t)
	viewers := func(seed uint64) (out []Viewer) {
		e := defaults()
		e.Seed, e.Traffic.Region = seed, "us-east"
		r := &runner{Config: Config{Lab: s}, e: e, noted: make(chan struct{}, 1)}
		for k := range 3 {
			for n := range 5 {
				out = append(out, r.viewer(control, k, n), r.viewer(treated, k, n))
			}
		}
		return out
	}
	one := viewers(1)
	if !slices.Equal(one, viewers(1)) || slices.Equal(one, viewers(2)) {
		t.Error("the seed does not decide who plays")
	}
	for k := 0; k < len(one); k += 2 {
		a, b := one[k], one[k+1]
		if _, _, ok := s.t.Locate(a.Client); !ok || a.Client == b.Client || a.ISP != b.ISP {
			t.Errorf("the groups' viewers %+v and %+v", a, b)
		}
	}
}

// TestPlaces refuses groups that could not be told apart: a fault that is about
// nobody, or about everybody, proves nothing.
func TestPlaces(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Experiment, *topology.Topology)
		says   string
	}{
		"an ISP of another region": {func(e *Experiment, _ *topology.Topology) {
			e.Traffic.Region, e.Traffic.ISP = "us-east", "us-west-isp-1"
		}, "near us-west"},
		"no networks": {func(e *Experiment, t *topology.Topology) {
			e.Groups.By = "client"
			for k := range t.Regions[0].ISPs {
				t.Regions[0].ISPs[k].Prefixes = []netip.Prefix{netip.MustParsePrefix("2001:db8::/121"), netip.MustParsePrefix("198.18.0.0/25")}
			}
		}, "no network of 256 addresses"},
	} {
		s := newStage(t)
		_, err := try(t, s, func(e *Experiment) {
			e.Traffic.Region = s.t.Regions[0].Name
			e.Method = []Step{{Kind: "fail-call", Target: "license"}}
			c.change(e, &s.t)
		})
		if services.KindOf(err) != services.Invalid || !strings.Contains(fmt.Sprint(err), c.says) || len(s.viewers) != 0 {
			t.Errorf("%s: %v, and %d viewers played", name, err, len(s.viewers))
		}
	}
}

// TestRefusedMeanwhile: a fault that is refused in the middle ends the traffic at
// once, however long a play takes.
func TestRefusedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, begun := newStage(t), time.Now()
		s.runErr, s.length = errors.New("it is faulted already"), time.Hour
		_, err := try(t, s, func(e *Experiment) { e.Phases.Baseline = Duration(time.Second) })
		if !errors.Is(err, s.runErr) || time.Since(begun) > time.Minute {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

// A machine on which a play takes longer than the baseline was declared for
// still has plays of before to compare with: the baseline is longer. One on which
// none ends is inconclusive, and says why.
func TestBaselineWaitsForPlays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.length = 11 * time.Second
		res, err := try(t, s, func(e *Experiment) { e.Traffic.Seconds = 60 })
		if err != nil || res.Verdict == "inconclusive" || res.Groups[control].Plays < leastPlays {
			t.Errorf("%s: %s (%v)", res.Verdict, res.Reason, err)
		}
		s = newStage(t)
		s.length = time.Minute
		res, err = try(t, s, func(e *Experiment) { e.Traffic.Seconds = 60 })
		if err != nil || res.Verdict != "inconclusive" || !strings.Contains(res.Reason, "too few") {
			t.Errorf("%s: %s (%v)", res.Verdict, res.Reason, err)
		}
	})
}

// Each step of an experiment left a region, all of them none: it began before it
// was refused.
func TestStepsArePlannedBesideEachOther(t *testing.T) {
	e, err := parse(strings.NewReader(strings.Replace(good, "  - {kind: kill, target: us-east/a/play/1}\n", `  - {kind: kill, target: us-east, at: 1s}
  - {kind: cache-flush, target: us-west}
  - {kind: kill, target: us-west, at: 2s, ttl: 1s}
  - {kind: pause, target: play, at: 1s}
  - {kind: kill, target: license, at: 3s}
`, 1)), "a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{e: e}
	for k, want := range [][]string{{}, {}, {"us-east", "play"}, {"us-east"}, {"us-east", "play"}} {
		got := []string{}
		for _, b := range r.planned(k).Beside {
			got = append(got, b.Target)
		}
		if !slices.Equal(got, want) {
			t.Errorf("step %d is planned beside %v, want %v", k, got, want)
		}
	}
}
