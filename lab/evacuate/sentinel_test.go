package evacuate

import (
	"math/rand/v2"
	"testing"
)

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
