package resident

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGrowth(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, roots uint64
		want        int
	}{{0, mib, 100}, {1, 0, 1000}, {4 * mib, 0, 700}, {4 * mib, 3 * mib, 400}, {15 * mib, 0, 110}, {15 * mib, mib, 100}, {32 * mib, mib, 100}, {500 * mib, 0, 100}} {
		if got := growth(c.live, c.roots, 32*mib); got != c.want {
			t.Errorf("of %d bytes and %d: %d %%, want %d", c.live, c.roots, got, c.want)
		}
	}
}

// growthNow is what the collector goes by.
func growthNow() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// The heap grows to the floor while little is in use, and to twice of what is once
// that is much.
func TestFloor(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(usualGrowth))
	await := func(what string, ok func(int) bool) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for tick := time.Tick(time.Millisecond); !ok(growthNow()); {
			runtime.GC()
			select {
			case <-tick:
			case <-deadline:
				t.Fatalf("%s: %d %%", what, growthNow())
			}
		}
	}
	end := Floor(64 << 20)
	await("with little in use", func(g int) bool { return g > 2*usualGrowth })
	much := make([]byte, 128<<20)
	await("with much in use", func(g int) bool { return g == usualGrowth })
	runtime.KeepAlive(much)
	await("with little in use again", func(g int) bool { return g > 2*usualGrowth })
	end()
	runtime.GC()
	if g := growthNow(); g != usualGrowth {
		t.Errorf("after its end: %d %%", g)
	}
}
