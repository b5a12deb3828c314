package cost

import (
	"testing"
	"time"
)

// What is known of a server orders it by latency, line and utilisation, and is
// forgotten in time.
func TestCost(t *testing.T) {
	now := time.Now()
	known := func(d time.Duration, busy float64, line int64, at time.Time) *Cost {
		c := new(Cost)
		c.Took(d, at)
		c.Told(busy, at)
		c.InFlight.Store(line)
		return c
	}
	base := known(10*time.Millisecond, 0.2, 1, now)
	for name, dearer := range map[string]*Cost{
		"slower":          known(20*time.Millisecond, 0.2, 1, now),
		"fuller":          known(10*time.Millisecond, 0.7, 1, now),
		"with more to do": known(10*time.Millisecond, 0.2, 2, now),
		"overloaded":      known(10*time.Millisecond, 7, 1, now),
	} {
		if !Cheaper(base, dearer, now) || Cheaper(dearer, base, now) {
			t.Errorf("one that is %s is not dearer: %v, %v", name, base.Of(now, 1), dearer.Of(now, 1))
		}
	}
	if c := new(Cost); !Cheaper(c, base, now) {
		t.Error("one that nothing is known of, and does nothing, is not tried")
	}
	if c := known(time.Second, 0.9, 0, now.Add(-20*Memory)); c.Busy(now) != 0 || c.Latency(now) > float64(time.Millisecond) || !c.Quiet(now) {
		t.Errorf("after long it is still %v busy, %v slow, quiet %v", c.Busy(now), c.Latency(now), c.Quiet(now))
	}
	if base.Quiet(now) {
		t.Error("one with a request under way is called quiet")
	}
}

// The mean follows what is slower at once, and what is faster by and by, even
// when no time passes.
func TestLatency(t *testing.T) {
	now := time.Now()
	c := new(Cost)
	c.Took(time.Millisecond, now)
	c.Took(100*time.Millisecond, now)
	if got := c.Latency(now); got != float64(100*time.Millisecond) {
		t.Errorf("after a slow answer the mean is %v", time.Duration(got))
	}
	for range 100 {
		c.Took(time.Millisecond, now)
	}
	if got := c.Latency(now); got > float64(2*time.Millisecond) || got < float64(time.Millisecond) {
		t.Errorf("after 100 fast answers the mean is %v", time.Duration(got))
	}
}

func BenchmarkCheaper(b *testing.B) {
	now := time.Now()
	one, two := new(Cost), new(Cost)
	one.Took(time.Millisecond, now)
	two.Took(time.Second, now)
	b.ReportAllocs()
	for b.Loop() {
		if !Cheaper(one, two, now) {
			b.Fatal("the slower is cheaper")
		}
	}
}
