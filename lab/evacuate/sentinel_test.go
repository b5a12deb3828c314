package evacuate

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// viewers are what a region counts of the plays that begin near it, at random,
// each with calls that are no starts.
type viewers struct {
	rng  *rand.Rand
	rate float64 // of starts per second
	v    Vitals
}

func newViewers(seed uint64, region string, rate float64) *viewers {
	return &viewers{rand.New(rand.NewPCG(seed, 7)), rate, Vitals{Region: region, Gateways: 2, PlayAPIs: 2}}
}

// second passes; each start fails with a chance.
func (w *viewers) second(fails float64) Vitals {
	for k := w.rng.ExpFloat64() / w.rate; k < 1; k += w.rng.ExpFloat64() / w.rate {
		w.v.Starts++
		w.v.Plays++
		w.v.Answered += 10
		if w.rng.Float64() < fails {
			w.v.PlaysFailed++
			w.v.Failed++
		}
	}
	return w.v
}

// Plays that fail to begin are a tenth of a region's requests, and a symptom by
// themselves: it does not take until viewers stay away.
func TestSentinelJudgesStartsByThemselves(t *testing.T) {
	const ill = 600
	for rate, within := range map[float64]int{20: 6, 4: 9, 1: 16, 0.5: 45, 0.25: 60} {
		for _, fails := range []float64{1, 0.5} {
			for seed := range uint64(20) {
				east, west := newViewers(seed, "us-east", rate), newViewers(seed+100, "us-west", rate)
				got := watchFor(NewSentinel(), 0, ill+3*within, func(i int) []Vitals {
					share := 0.0
					if i > ill {
						share = fails
					}
					return []Vitals{east.second(share), west.second(0)}
				})
				limit := within
				if fails < 1 {
					limit *= 3
				}
				if at := got["us-east"]; len(got) != 1 || at < ill+5 || at > ill+limit {
					t.Errorf("seed %d, %g starts a second, of which %g fail: evacuated %v, want us-east in %d s of second %d", seed, rate, fails, got, limit, ill)
				}
			}
		}
	}
}

// A region that fails for two seconds of every eight, a quarter of its plays, is sick
// however many begin: where many do, the calm between is no health. One second of
// sixteen is less than a tenth, and no sickness.
func TestSentinelSeesWhatFailsTimeAndAgain(t *testing.T) {
	const ill = 300
	for _, rate := range []float64{4, 10, 20, 100} {
		for seed := range uint64(10) {
			flapping := func(bad, of int) map[string]int {
				east, west := newViewers(seed, "us-east", rate), newViewers(seed+100, "us-west", rate)
				return watchFor(NewSentinel(), 0, ill+240, func(i int) []Vitals {
					share := 0.0
					if i > ill && i%of < bad {
						share = 1
					}
					return []Vitals{east.second(share), west.second(0)}
				})
			}
			if got := flapping(2, 8); len(got) != 1 || got["us-east"] < ill+5 || got["us-east"] > ill+48 {
				t.Errorf("seed %d, %g starts a second: evacuated %v, want us-east in 48 s of second %d", seed, rate, got, ill)
			}
			if got := flapping(1, 16); len(got) != 0 {
				t.Errorf("seed %d, %g starts a second, of which a sixteenth fails: evacuated %v", seed, rate, got)
			}
		}
	}
}

// No region is sick for a play now and then that does not begin, nor for some
// that fail together in a moment.
func TestSentinelTakesFewFailuresForNoSickness(t *testing.T) {
	for _, rate := range []float64{0.05, 0.5, 4, 20} {
		for seed := range uint64(10) {
			east, west := newViewers(seed, "us-east", rate), newViewers(seed+100, "us-west", rate)
			got := watchFor(NewSentinel(), 0, 3600, func(i int) []Vitals {
				if i%300 < 2 { // one viewer tries again and again
					west.v.Starts, west.v.Plays, west.v.Answered = west.v.Starts+3, west.v.Plays+3, west.v.Answered+3
					west.v.PlaysFailed, west.v.Failed = west.v.PlaysFailed+3, west.v.Failed+3
				}
				return []Vitals{east.second(0.01), west.second(0)}
			})
			if len(got) != 0 {
				t.Errorf("seed %d, %g starts a second: evacuated %v, and nothing was wrong", seed, rate, got)
			}
		}
	}
}

// A symptom stays until several conclusions in a row were calm: where failures
// come in bursts it would else begin anew with each.
func TestSentinelSymptomStays(t *testing.T) {
	s, v := NewSentinel(), Vitals{Region: "us-east", Gateways: 2}
	sick := 0
	for i := range 60 {
		v.Plays += 10
		if i >= 20 && i < 40 && i%3 == 0 {
			v.PlaysFailed += 5
		}
		for _, x := range s.Look(time.Unix(int64(i), 0), []Vitals{v, {Region: "us-west", Gateways: 2}}) {
			if x.Text == "" {
				continue
			}
			sick++
			if x.Region != "us-east" || x.ForS != float64(i-21) {
				t.Errorf("second %d: %+v, want us-east sick since second 21", i, x)
			}
		}
	}
	if sick != 21 {
		t.Errorf("sick for %d seconds, want 21: from second 21 to 41", sick)
	}
}

// An evacuation that fails or is refused is tried again, each time later, while
// another region that is sick does not wait for it; one that is done lets all rest.
func TestSentinelTriesAgain(t *testing.T) {
	s := NewSentinel()
	var asked []int
	look := func(i int, sick ...string) (region string) {
		var all []Vitals
		for _, r := range []string{"a", "b", "c"} {
			v := Vitals{Region: r, Gateways: 2}
			if slices.Contains(sick, r) {
				v.Gateways = 0
			}
			all = append(all, v)
		}
		for _, x := range s.Look(time.Unix(int64(i), 0), all) {
			if x.Evacuate {
				region = x.Region
			}
		}
		return region
	}
	for i := range 1200 {
		if r := look(i, "a"); r != "" {
			asked = append(asked, i)
			s.Ended(time.Unix(int64(i), 0), r, false)
		}
	}
	if want := []int{6, 21, 51, 111, 231, 471, 771, 1071}; !slices.Equal(asked, want) {
		t.Errorf("asked for at %v, want %v", asked, want)
	}
	for i := 1200; i < 1210; i++ {
		if r := look(i, "a", "b"); r != "" && (r != "b" || i != 1205) {
			t.Errorf("second %d: %s is to be evacuated, want b at 1205", i, r)
		} else if r != "" {
			if rest := s.Ended(time.Unix(int64(i), 0), r, true); rest != s.Rest {
				t.Errorf("rests for %s, want %s", rest, s.Rest)
			}
		}
	}
	for i := 1210; i < 1510; i++ {
		if r := look(i, "a", "b"); r != "" && i < 1505 {
			t.Errorf("second %d: %s is to be evacuated while all should rest", i, r)
		}
	}
}

// Where plays begin rarely, seconds without any are chance and no symptom, not
// even while a few requests fail for a moment.
func TestSentinelKnowsChance(t *testing.T) {
	const rate = 0.5
	regions := []string{"a", "b", "c", "d", "e"}
	rng := rand.New(rand.NewPCG(1, 2))
	counts := map[string]Vitals{}
	got := watchFor(NewSentinel(), 0, 1800, func(i int) []Vitals {
		var out []Vitals
		for _, r := range regions {
			v := counts[r]
			v.Region, v.Gateways, v.PlayAPIs = r, 2, 2
			if rng.Float64() < rate {
				v.Starts++
				v.Answered += 10
				if i%60 == 0 {
					v.Failed += 5
				}
			}
			counts[r] = v
			out = append(out, v)
		}
		return out
	})
	if len(got) != 0 {
		t.Errorf("evacuated %v, and nothing was wrong", got)
	}
}

// Where plays begin rarely it takes longer to see that none do any more.
func TestSentinelSeesFewStartsEnd(t *testing.T) {
	for rate, want := range map[float64]int{2: 20, 0.5: 60, 0.25: 120} {
		got := watchFor(NewSentinel(), 0, 601+want, func(i int) []Vitals {
			v := Vitals{Region: "us-east", Gateways: 2, PlayAPIs: 2, Starts: float64(int(rate * float64(min(i, 600))))}
			return []Vitals{v, {Region: "us-west", Gateways: 2, PlayAPIs: 2, Starts: float64(int(rate * float64(i)))}}
		})
		if at, ok := got["us-east"]; !ok || at <= 600 || at > 600+want || len(got) != 1 {
			t.Errorf("at %g starts per second: evacuated %v, want us-east in %d s of second 600", rate, got, want)
		}
	}
}

// Too few requests in a second to conclude anything are looked at together; once
// too many fail, a second without enough is no sign of health, and a lull of some
// seconds is one.
func TestSentinelAddsUpFewAnswers(t *testing.T) {
	at := func(per, last int) func(int) []Vitals {
		return func(i int) []Vitals {
			v := Vitals{Region: "us-east", Gateways: 2, Answered: 1000}
			for k := 20; k <= min(i, last); k++ {
				v.Answered += float64(per)
				v.Failed += float64(per)
			}
			return []Vitals{v, {Region: "us-west", Gateways: 2}}
		}
	}
	if got := watchFor(NewSentinel(), 0, 60, at(2, 60)); got["us-east"] < 25 || got["us-east"] > 35 {
		t.Errorf("evacuated %v, want us-east within some seconds of second 25: each of its requests fails", got)
	}
	if got := watchFor(NewSentinel(), 0, 60, at(10, 21)); len(got) != 0 {
		t.Errorf("evacuated %v after two bad seconds that nobody asked anything after", got)
	}
	alternating := func(i int) []Vitals {
		v := Vitals{Region: "us-east", Gateways: 2, Answered: 1000}
		for k := 20; k <= i; k++ { // seven one second, two the next
			v.Answered += float64(2 + 5*(k%2))
		}
		v.Failed = v.Answered - 1000
		return []Vitals{v, {Region: "us-west", Gateways: 2}}
	}
	if got := watchFor(NewSentinel(), 0, 60, alternating); got["us-east"] < 25 || got["us-east"] > 30 {
		t.Errorf("evacuated %v, want us-east about second 26", got)
	}
}
