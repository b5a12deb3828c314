package evacuate

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/topology"
)

// TestAShareWaitsForCaches has the savers' caches miss: as long as they miss most
// reads the next share waits, a bounded time.
func TestAShareWaitsForCaches(t *testing.T) {
	const never = time.Hour
	for name, c := range map[string]struct {
		// reads a second in a region, of which missed are misses until they warm.
		reads, missed float64
		warm          time.Duration // after the first share is given
		steps         int           // between the first share and the next
		notes         int           // that a share went on nevertheless
		text          string
	}{
		"most hits":    {1000, 0.79, never, 1, 0, "79 % of reads missed so far"},
		"most misses":  {1000, 0.81, never, missLooks, 3, "81 % of reads missed so far"},
		"warm at last": {1000, 0.9, 700 * time.Millisecond, 4, 0, "90 % of reads missed so far"},
		"few reads":    {200, 1, never, 1, 0, "100 % of reads missed so far"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlanet(t, 3)
				var given []time.Time
				p.hook = func(call string) {
					if strings.HasPrefix(call, "proxy us-east 0.") {
						given = append(given, time.Now())
					}
				}
				counted := func(d time.Duration) uint64 { return uint64(c.reads*d.Seconds() + 0.5) }
				p.onCaches = func(_ string, k *Caches) {
					cold := time.Since(p.began)
					if len(given) > 0 && cold > given[0].Add(c.warm).Sub(p.began) {
						cold = given[0].Add(c.warm).Sub(p.began)
					}
					k.Misses = uint64(c.missed*float64(counted(cold)) + 0.5)
					k.Hits = counted(time.Since(p.began)) - k.Misses
				}
				sleepALittle(t) // so that something has been read
				var notes, caches []string
				r, _ := run(p)
				r.Progress = func(kind, text string, data map[string]any) {
					switch {
					case kind == "failover.note":
						notes = append(notes, text)
					case data["step"] == "caches":
						caches = append(caches, text)
					}
				}
				rep, err := r.Failover(t.Context(), "us-east", false)
				if err != nil || rep.State != Done || len(given) != 2 {
					t.Fatalf("state %s, %d growing shares, error %v", rep.State, len(given), err)
				}
				if got := given[1].Sub(given[0]) / topology.LabTiming().EvacuationStep.D(); int(got) != c.steps {
					t.Errorf("the second share came after %d steps, want %d", got, c.steps)
				}
				held := 0
				for _, n := range notes {
					if strings.Contains(n, "the caches of us-west, eu-west still miss most reads") {
						held++
					}
				}
				if held != c.notes {
					t.Errorf("notes %q", notes)
				}
				if len(caches) != 1 || !strings.HasSuffix(caches[0], c.text) {
					t.Errorf("caches: %q, want %q", caches, c.text)
				}
			})
		})
	}
}

func sleepALittle(t *testing.T) {
	t.Helper()
	if err := sleep(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
}
