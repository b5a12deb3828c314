package limit

import (
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

// station is a simulated dependency: it works on so many calls at once, each
// for service; further calls wait in line.
type station struct {
	workers int
	service time.Duration
}

func (s station) rtt(inFlight int) time.Duration {
	if inFlight <= s.workers {
		return s.service
	}
	return s.service * time.Duration(inFlight) / time.Duration(s.workers)
}

// drive keeps offered calls under way, as many as the limiter lets in, for so
// many windows, and returns the limit after each.
func drive(t *testing.T, l *Limiter, s func(inFlight int) (time.Duration, Outcome), offered, windows int) (limits []int) {
	t.Helper()
	now := l.window.next // of an earlier drive
	for range windows {
		var held []Ticket
		for range offered {
			if tk, ok := l.Acquire(); ok {
				held = append(held, tk)
			}
		}
		now += maxWindow + time.Millisecond
		for i, tk := range held {
			rtt, o := s(len(held))
			l.Release(tk, now+time.Duration(i), rtt, o)
		}
		limits = append(limits, l.Limit())
	}
	if l.InFlight() != 0 {
		t.Errorf("%d places were not given back", l.InFlight())
	}
	return limits
}

func newLimiter(t testing.TB, c Config) *Limiter {
	t.Helper()
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLimitsSettleNearWhatTheDependencyTakes(t *testing.T) {
	s := station{workers: 60, service: 10 * time.Millisecond}
	answered := func(n int) (time.Duration, Outcome) { return s.rtt(n), Done }
	for _, c := range []Config{{Algorithm: Vegas}, {Algorithm: Gradient2, Max: 1000}} {
		t.Run(c.Algorithm, func(t *testing.T) {
			limits := drive(t, newLimiter(t, c), answered, 1000, 300)
			last := limits[len(limits)-1]
			if last < s.workers/2 || last > 4*s.workers {
				t.Errorf("the limit settled at %d; the dependency works on %d at once (%v)", last, s.workers, limits)
			}
		})
	}
}

func TestLimitFallsWhenTheDependencySlowsDown(t *testing.T) {
	for _, name := range []string{Vegas, Gradient2} {
		t.Run(name, func(t *testing.T) {
			l := newLimiter(t, Config{Algorithm: name, Initial: 200, Max: 200})
			fast, slow := station{200, 2 * time.Millisecond}, station{200, 80 * time.Millisecond}
			drive(t, l, func(n int) (time.Duration, Outcome) { return fast.rtt(n), Done }, 200, 30)
			before := l.Limit()
			drive(t, l, func(n int) (time.Duration, Outcome) { return slow.rtt(n), Done }, 200, 40)
			if l.Limit() >= before*3/4 {
				t.Errorf("%d before, %d after it became forty times slower", before, l.Limit())
			}
		})
	}
}

// A dependency whose calls all time out takes the same time for each: that is
// no reason to let more in.
func TestSteadyTimeoutsLowerTheLimit(t *testing.T) {
	for _, name := range Algorithms() {
		t.Run(name, func(t *testing.T) {
			l := newLimiter(t, Config{Algorithm: name, Initial: 100, Max: 200})
			limits := drive(t, l, func(int) (time.Duration, Outcome) { return time.Second, Dropped }, 200, 100)
			if last := limits[len(limits)-1]; last > 40 {
				t.Errorf("the limit is %d after a hundred windows of timeouts", last)
			}
		})
	}
}

func TestAnIdleLimitDoesNotDrift(t *testing.T) {
	for _, name := range Algorithms() {
		t.Run(name, func(t *testing.T) {
			l := newLimiter(t, Config{Algorithm: name, Initial: 100, Max: 200})
			drive(t, l, func(int) (time.Duration, Outcome) { return time.Millisecond, Done }, 12, 200)
			if l.Limit() != 100 {
				t.Errorf("the limit drifted to %d while 12 calls used it", l.Limit())
			}
		})
	}
}

func TestAcquireRefusesBeyondTheLimit(t *testing.T) {
	l := newLimiter(t, Config{Algorithm: AIMD, Initial: 2, Min: 1, Max: 2})
	a, ok := l.Acquire()
	_, ok2 := l.Acquire()
	if _, third := l.Acquire(); !ok || !ok2 || third {
		t.Fatalf("places: %t %t %t, want two of three", ok, ok2, third)
	}
	l.Release(a, 0, 0, Ignored)
	if _, again := l.Acquire(); !again || l.Refused() != 1 {
		t.Errorf("after one was given back: %t; %d refused", again, l.Refused())
	}
}

func TestIgnoredCallsAreNoSamples(t *testing.T) {
	l := newLimiter(t, Config{Algorithm: AIMD, Initial: 100, Max: 200})
	drive(t, l, func(int) (time.Duration, Outcome) { return time.Hour, Ignored }, 100, 20)
	if l.Limit() != 100 {
		t.Errorf("the limit is %d", l.Limit())
	}
}

func TestConfig(t *testing.T) {
	good := map[Config]Config{
		{Algorithm: Vegas}:                                   {Vegas, 20, 1, 1000},
		{Algorithm: Gradient2}:                               {Gradient2, 20, 20, 200},
		{Algorithm: AIMD, Max: 10}:                           {AIMD, 10, 10, 10},
		{Algorithm: Gradient2, Initial: 500}:                 {Gradient2, 500, 20, 500},
		{Algorithm: Vegas, Initial: 3, Min: 2, Max: 1 << 20}: {Vegas, 3, 2, 1 << 20},
	}
	for in, want := range good {
		if got := newLimiter(t, in).Config(); got != want {
			t.Errorf("%+v became %+v, want %+v", in, got, want)
		}
	}
	for _, in := range []Config{{}, {Algorithm: "fixed"}, {Algorithm: Vegas, Min: 9, Max: 3}, {Algorithm: Vegas, Initial: -1}, {Algorithm: AIMD, Initial: 5, Min: 6, Max: 7}} {
		if _, err := New(in); services.KindOf(err) != services.Invalid {
			t.Errorf("%+v: %v, want an Invalid error", in, err)
		}
	}
}

func TestPlacesCostNoAllocation(t *testing.T) {
	l := newLimiter(t, Config{Algorithm: Gradient2})
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		tk, _ := l.Acquire()
		now += 3 * time.Millisecond
		l.Release(tk, now, time.Millisecond, Done)
	}); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	l := newLimiter(b, Config{Algorithm: Gradient2})
	now := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		tk, _ := l.Acquire()
		now += 300 * time.Microsecond
		l.Release(tk, now, time.Millisecond, Done)
	}
}
