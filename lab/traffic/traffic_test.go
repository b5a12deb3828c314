package traffic

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/lab/player"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeViewer plays titles of ten seconds by letting time pass.
type fakeViewer struct {
	active, most atomic.Int64
	// fail says whether a play fails.
	fail func(o player.Options) error
	// stall is how much of a play is a stall.
	stall time.Duration

	mu    sync.Mutex
	plays []player.Options
}

const fakeLength = 10 * time.Second

func (f *fakeViewer) Play(ctx context.Context, o player.Options) (player.Report, error) {
	f.mu.Lock()
	f.plays = append(f.plays, o)
	f.mu.Unlock()
	n := f.active.Add(1)
	defer f.active.Add(-1)
	for m := f.most.Load(); n > m && !f.most.CompareAndSwap(m, n); m = f.most.Load() {
	}
	if f.fail != nil {
		if err := f.fail(o); err != nil {
			return player.Report{}, err
		}
	}
	<-time.After(40 * time.Millisecond) // what a viewer waits for
	o.Gauge.Shown(40 * time.Millisecond)
	o.Gauge.Received(1000)
	r := player.Report{Segments: 5, PlayDelayMS: 40, MeanKbps: 500, SecondsPlayed: 10}
	if f.stall > 0 {
		<-time.After(f.stall)
		r.Rebuffers = 1
	}
	t := time.NewTimer(time.Duration(float64(fakeLength) / o.Speed))
	defer t.Stop()
	select {
	case <-t.C:
	case <-o.Until.Done():
		r.Left = true
	case <-ctx.Done():
		return r, ctx.Err()
	}
	o.Gauge.Passed(fakeLength, f.stall, r.Rebuffers)
	return r, nil
}

func config(t *testing.T, players int) Config {
	t.Helper()
	top, err := topology.Preset(2)
	if err != nil {
		t.Fatal(err)
	}
	var isps []topology.ISP
	for _, r := range top.Regions {
		isps = append(isps, r.ISPs...)
	}
	return Config{
		Topology: top, Players: players, Shape: Constant, Choose: Zipf, ISPs: isps, Speed: 1, Seed: 7,
		Titles: []Title{{ID: "a", Length: fakeLength}, {ID: "b", Length: fakeLength}, {ID: "c", Length: fakeLength}},
		SignUp: func(context.Context, string, string, string) error { return nil },
	}
}

func mustRun(t *testing.T, v Viewer, c Config) Result {
	t.Helper()
	r, err := Run(t.Context(), v, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEachWatchesOnce runs without a duration.
func TestEachWatchesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &fakeViewer{}
		c := config(t, 50)
		c.Ramp = 5 * time.Second
		members := map[string]bool{}
		c.SignUp = func(_ context.Context, email, _, _ string) error { members[email] = true; return nil }
		c.SignUp = serial(c.SignUp)
		r := mustRun(t, v, c)
		if r.Plays != 50 || r.PlaysFailed != 0 || r.Players != 50 || r.Mode != player.Full || r.Bytes != 50_000 || r.MeanKbps != 500 {
			t.Errorf("report %+v", r.Report)
		}
		if r.StartsPerSecond < 9 || r.StartsPerSecond > 11 || r.PlayDelay.P50 < 39 || r.PlayDelay.P99 > 42 {
			t.Errorf("%g starts/s, delays %+v", r.StartsPerSecond, r.PlayDelay)
		}
		if len(members) != 3 {
			t.Errorf("%d members for 50 players", len(members))
		}
		if holds, why := r.Verdict(Limits{RebufferRatio: 0.01}); !holds {
			t.Error(why)
		}
	})
}

// serial keeps a function of the test from being called by two at once.
func serial(f func(context.Context, string, string, string) error) func(context.Context, string, string, string) error {
	var mu sync.Mutex
	return func(ctx context.Context, a, b, c string) error {
		mu.Lock()
		defer mu.Unlock()
		return f(ctx, a, b, c)
	}
}

// TestSignUpGivesUp asks a lab that makes no members for a few, not for all of a
// large fleet's, and one that is interrupted begins no load.
func TestSignUpGivesUp(t *testing.T) {
	v := &fakeViewer{}
	c := config(t, 10_000)
	var asked atomic.Int64
	c.SignUp = func(context.Context, string, string, string) error {
		asked.Add(1)
		return services.Errorf(services.Unavailable, "no member can be made")
	}
	if _, err := Run(t.Context(), v, c); services.KindOf(err) != services.Unavailable || asked.Load() > 20 {
		t.Errorf("asked %d times, error %v", asked.Load(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, v, c); !errors.Is(err, context.Canceled) || len(v.plays) != 0 {
		t.Errorf("%d plays, error %v", len(v.plays), err)
	}
}

// TestDurationKeepsPlayersBusy plays title after title, and lets viewers leave
// at the end.
func TestDurationKeepsPlayersBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &fakeViewer{}
		c := config(t, 20)
		c.Duration = 35 * time.Second
		r := mustRun(t, v, c)
		if r.Plays != 80 || r.Left != 20 || r.PlaysFailed != 0 || v.most.Load() != 20 || r.Elapsed > 36*time.Second {
			t.Errorf("%d plays, %d left, %d failed, %d at once, %s", r.Plays, r.Left, r.PlaysFailed, v.most.Load(), r.Elapsed)
		}
		if n := len(r.Seconds); n < 34 || n > 36 {
			t.Errorf("%d seconds", n)
		}
	})
}

func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		r, err := Run(ctx, &fakeViewer{}, config(t, 5))
		if err != nil || !r.Interrupted || r.Plays != 5 || r.Left != 5 || r.PlaysFailed != 0 {
			t.Errorf("report %+v, error %v", r, err)
		}
	})
}

// TestFailuresAreCountedAndHeldBack has every play fail at once: the fleet does
// not hammer the lab, and says what happened.
func TestFailuresAreCountedAndHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &fakeViewer{fail: func(player.Options) error { return errors.New("no licence") }}
		c := config(t, 10)
		c.Duration = 5 * time.Second
		r := mustRun(t, v, c)
		if r.PlaysFailed != r.Plays || r.Plays < 40 || r.Plays > 60 {
			t.Errorf("%d of %d failed", r.PlaysFailed, r.Plays)
		}
		if len(r.Errors) != 1 || r.Errors[0].Text != "no licence" || r.Errors[0].Plays != r.Plays {
			t.Errorf("errors %+v", r.Errors)
		}
		if holds, why := r.Verdict(Limits{RebufferRatio: 1}); holds || len(why) != 1 {
			t.Errorf("holds %v, why %q", holds, why)
		}
	})
}

func TestStallsFailTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRun(t, &fakeViewer{stall: time.Second}, config(t, 4))
		if r.StalledPlays != 4 || math.Abs(r.RebufferRatio-1.0/11) > 1e-9 {
			t.Errorf("%d stalled, ratio %g", r.StalledPlays, r.RebufferRatio)
		}
		if holds, _ := r.Verdict(Limits{RebufferRatio: 0.05}); holds {
			t.Error("the verdict holds")
		}
		if holds, _ := r.Verdict(Limits{RebufferRatio: 0.1}); !holds {
			t.Error("the verdict does not hold")
		}
	})
}

// TestNothingPlayedIsNoSuccess is over before any play has a picture.
func TestNothingPlayedIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t, 5)
		c.Duration = 10 * time.Millisecond
		r := mustRun(t, lateViewer{}, c)
		if holds, why := r.Verdict(Limits{RebufferRatio: 1}); holds || len(why) != 1 || r.Plays != 0 || r.PlaysFailed != 0 {
			t.Errorf("holds %v, %q: %+v", holds, why, r.Report)
		}
	})
}

// lateViewer walks away before there is a picture.
type lateViewer struct{}

func (lateViewer) Play(_ context.Context, o player.Options) (player.Report, error) {
	<-o.Until.Done()
	return player.Report{Left: true}, nil
}

func TestShapes(t *testing.T) {
	const d, ramp = 100 * time.Second, 10 * time.Second
	for _, c := range []struct {
		s    Shape
		at   time.Duration
		want float64
	}{
		{Constant, 0, 0}, {Constant, 5 * time.Second, 0.5}, {Constant, 50 * time.Second, 1},
		{Diurnal, 80 * time.Second, 1}, {Diurnal, 30 * time.Second, 1.0 / 3},
		{Spike, 30 * time.Second, 0.2}, {Spike, 50 * time.Second, 1}, {Spike, 70 * time.Second, 0.2},
		{FlashCrowd, 30 * time.Second, 0.1}, {FlashCrowd, d/3 + ramp, 1}, {FlashCrowd, d, 0.15625},
	} {
		if got := c.s.share(c.at, ramp, d); math.Abs(got-c.want) > 0.01 {
			t.Errorf("%s at %s: %g, want %g", c.s, c.at, got, c.want)
		}
	}
	if f := FlashCrowd.fan(d/3+ramp, ramp, d); f < 0.7 || f > 0.8 {
		t.Errorf("%g of a crowd come for its title", f)
	}
	if err := Spike.validate(0); services.KindOf(err) != services.Invalid {
		t.Errorf("a spike without a duration: %v", err)
	}
	if err := Shape("square").validate(d); services.KindOf(err) != services.Invalid {
		t.Errorf("an unknown shape: %v", err)
	}
}

// TestPlaysAreTheSameForTheSameSeed describes plays twice.
func TestPlaysAreTheSameForTheSameSeed(t *testing.T) {
	c := config(t, 1)
	c.Seeks, c.Leaves = 0.5, 0.5
	describe := func(seed uint64) (out []string) {
		c.Seed = seed
		p, err := newPicker(c)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 50 {
			o := p.play(n%5, n, 0)
			out = append(out, o.Title+o.ISP+o.Device+time.Duration(o.Leave*1e9).String())
			if len(o.Seeks) > 0 {
				out = append(out, time.Duration(o.Seeks[0].To*1e9).String())
			}
		}
		return out
	}
	if !slices.Equal(describe(1), describe(1)) || slices.Equal(describe(1), describe(2)) {
		t.Error("the seed does not decide")
	}
}

func TestTitlesByPopularityAndLicence(t *testing.T) {
	c := config(t, 1)
	country := c.ISPs[0].Country
	c.ISPs = c.ISPs[:1]
	c.Titles = append(c.Titles, Title{ID: "abroad", Countries: []string{"XX"}}, Title{ID: "home", Countries: []string{country}})
	p, err := newPicker(c)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for k := range 2000 {
		n[p.play(0, k, 0).Title]++
	}
	if n["abroad"] != 0 || n["home"] == 0 || n["a"] < n["b"] || n["b"] < n["c"] || n["a"] > 3*n["b"] {
		t.Errorf("plays by title: %v", n)
	}
	for name, choose := range map[string]string{"unknown": "nosuch", "not licensed": "abroad"} {
		c.Choose = choose
		if _, err := newPicker(c); err == nil {
			t.Errorf("%s titles are taken", name)
		}
	}
	c.Choose = "b, c"
	if p, err = newPicker(c); err != nil {
		t.Fatal(err)
	}
	for k := range 50 {
		if id := p.play(0, k, 0).Title; id != "b" && id != "c" {
			t.Errorf("it plays %s", id)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no players": func(c *Config) { c.Players = 0 }, "too many": func(c *Config) { c.Players = 1 << 20 },
		"ramp": func(c *Config) { c.Ramp = -1 }, "speed": func(c *Config) { c.Speed = 0 },
		"seeks": func(c *Config) { c.Seeks = 2 }, "shape": func(c *Config) { c.Shape = "" }, "leaves": func(c *Config) { c.Leaves = math.NaN() },
	} {
		c := config(t, 1)
		change(&c)
		if _, err := Run(t.Context(), &fakeViewer{}, c); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.add(float64(i))
	}
	for q, want := range map[float64]float64{0.5: 500, 0.99: 990, 1: 1000} {
		if got := h.quantile(q); got < want || got > want*1.04 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	for _, ms := range []float64{0, 0.01, 1.9, 2, 63, 1e4, 1e9} {
		if i := histogramBucket(ms); ms < 4e6 && (histogramValue(i) < ms || i > 0 && histogramValue(i-1) > ms) {
			t.Errorf("%g ms is in bucket %d, up to %g", ms, i, histogramValue(i))
		}
	}
	if (&histogram{}).quantile(0.5) != 0 {
		t.Error("nothing has a median")
	}
}
