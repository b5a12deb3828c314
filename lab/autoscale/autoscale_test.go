package autoscale

import (
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.Local)

func policy() Policy {
	return Policy{Min: 2, Max: 8, Metric: Concurrency, Target: 10, UpCooldown: 5 * time.Second, DownCooldown: 20 * time.Second, WarmUp: 3 * time.Second}
}

// service is an imagined one, whose instances come at once.
type service struct {
	p    Policy
	s    State
	now  time.Time
	have int
}

// run takes one decision a second under a load, and returns the counts.
func (x *service) run(seconds int, load func(second int) float64) []int {
	var out []int
	for i := range seconds {
		d := x.p.Decide(&x.s, x.now, x.have, 0, Load{Total: load(i), Known: true})
		if d.Want != x.have {
			x.s.Changed(x.now, d.Want > x.have)
			x.have = d.Want
		}
		out = append(out, x.have)
		x.now = x.now.Add(time.Second)
	}
	return out
}

func constant(v float64) func(int) float64 { return func(int) float64 { return v } }

func TestTracksItsTarget(t *testing.T) {
	x := &service{p: policy(), now: noon, have: 2}
	if got := x.run(5, constant(55)); got[4] != 6 {
		t.Errorf("55 with a target of 10 gives %v", got)
	}
	if got := x.run(10, constant(60)); got[9] != 6 {
		t.Errorf("at its target it changes: %v", got)
	}
	if got := x.run(10, constant(500)); got[9] != 8 {
		t.Errorf("beyond the maximum: %v", got)
	}
	got := x.run(60, constant(12))
	if got[15] != 8 || got[59] != 2 {
		t.Errorf("it shrinks by %v, want after the cool-down, to 2", got)
	}
}

// TestABurstShrinksNothing has the load drop for a moment.
func TestABurstShrinksNothing(t *testing.T) {
	x := &service{p: policy(), now: noon, have: 2}
	x.run(30, constant(60))
	for i, n := range x.run(60, func(i int) float64 {
		if i%7 == 0 {
			return 60
		}
		return 20
	}) {
		if n != 6 {
			t.Fatalf("second %d has %d instances", i, n)
		}
	}
}

func TestGrowthWaitsForWhatWarmsUp(t *testing.T) {
	p, s := policy(), State{}
	d := p.Decide(&s, noon, 4, 2, Load{Total: 100, Known: true})
	if d.Want != 4 || !strings.Contains(d.Reason, "warming up") {
		t.Errorf("%+v", d)
	}
}

func TestNothingKnownChangesNothing(t *testing.T) {
	p, s := policy(), State{}
	if d := p.Decide(&s, noon, 5, 0, Load{}); d.Want != 5 {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(&s, noon, 1, 0, Load{}); d.Want != 2 {
		t.Errorf("below the minimum: %+v", d)
	}
	p.Paused = true
	if d := p.Decide(&s, noon, 1, 0, Load{Total: 1000, Known: true}); d.Want != 1 || d.Reason != "paused" {
		t.Errorf("paused: %+v", d)
	}
}

func TestSchedule(t *testing.T) {
	p, s := policy(), State{}
	p.Target = 0
	var err error
	if p.Schedule, err = ParseSchedule("11:00-13:00=5, 22:00-02:00=7"); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int]int{10: 2, 12: 5, 13: 2, 23: 7, 1: 7, 2: 2} {
		now := time.Date(2026, 11, 26, at, 0, 0, 0, time.Local)
		if d := p.Decide(&s, now, 2, 0, Load{}); d.Want != want {
			t.Errorf("at %d: %+v, want %d", at, d, want)
		}
	}
	if d := p.Decide(&s, noon.Add(-2*time.Hour), 7, 0, Load{}); d.Want != 2 {
		t.Errorf("after its window: %+v", d)
	}
}

// TestPredicts grows for where a ramp leads to, and not for a steady load.
func TestPredicts(t *testing.T) {
	ramp := func(i int) float64 { return 10 + float64(i) }
	p := policy()
	p.UpCooldown = 0
	plain := &service{p: p, now: noon, have: 2}
	p.Predict = 15 * time.Second
	ahead := &service{p: p, now: noon, have: 2}
	a, b := plain.run(30, ramp), ahead.run(30, ramp)
	if b[20] <= a[20] || b[29] > 8 {
		t.Errorf("ahead %v, as it is %v", b, a)
	}
	steady := &service{p: p, now: noon, have: 3}
	if got := steady.run(30, constant(28)); got[29] != 3 {
		t.Errorf("a steady load: %v", got)
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Policy){
		"min": func(p *Policy) { p.Min = 0 }, "max": func(p *Policy) { p.Max = 1 }, "metric": func(p *Policy) { p.Metric = "cpu" },
		"target": func(p *Policy) { p.Target = -1 }, "utilisation": func(p *Policy) { p.Metric, p.Target = Utilisation, 60 },
		"cool-down": func(p *Policy) { p.UpCooldown = -1 }, "window": func(p *Policy) { p.Schedule = []Window{{0, 60, 99}} },
		"windows": func(p *Policy) { p.Schedule = make([]Window, maxWindows+1) },
	} {
		p := policy()
		change(&p)
		if err := p.Validate(); services.KindOf(err) != services.Invalid || services.ProblemOf(err).Remedy == "" {
			t.Errorf("%s: %v, without a remedy", name, err)
		}
	}
	if err := policy().Validate(); err != nil {
		t.Error(err)
	}
	if err := Defaults(2).Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{"", "08:00-20:00=4", "08:00-20:00=4,20:00-24:00=8", "23:00-01:00=2", "8-9=1", "08:60-09:00=1", "=,-:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ws, err := ParseSchedule(s)
		if err != nil {
			return
		}
		for _, w := range ws {
			again, err := ParseSchedule(w.String())
			if err != nil || len(again) != 1 || again[0] != w {
				t.Errorf("%q is read as %+v, %v", w.String(), again, err)
			}
		}
	})
}
