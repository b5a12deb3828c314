package traffic

import (
	"math"
	"time"

	"github.com/flix-lab/flix/services"
)

// Shape is how many of a fleet's players watch at a time.
type Shape string

// Shapes of load. All but the first need a duration.
const (
	// Constant watches with all of them, after the ramp.
	Constant Shape = "constant"
	// Diurnal is one day, as long as the load: a night with a third of them, an
	// evening with all.
	Diurnal Shape = "diurnal"
	// Spike has a fifth of them, and all in the middle fifth of the time.
	Spike Shape = "spike"
	// FlashCrowd has a tenth of them until a third of the time; then all come
	// within a ramp, four of five of them for one title, and go by and by.
	FlashCrowd Shape = "flashcrowd"
)

// Shapes lists them.
func Shapes() []Shape { return []Shape{Constant, Diurnal, Spike, FlashCrowd} }

// share of the players that watch at a time into a load of a duration (0: it
// lasts until everybody has watched once).
func (s Shape) share(at, ramp, duration time.Duration) float64 {
	up := 1.0
	if ramp > 0 {
		up = min(float64(at)/float64(ramp), 1)
	}
	x := 0.0
	if duration > 0 {
		x = min(float64(at)/float64(duration), 1)
	}
	switch s {
	case Diurnal:
		const night, evening = 1.0 / 3, 0.8 // the evening's peak, as part of the day
		return min(up, night+(1-night)*(1+math.Cos(2*math.Pi*(x-evening)))/2)
	case Spike:
		if x >= 0.4 && x < 0.6 {
			return 1
		}
		return min(up, 0.2)
	case FlashCrowd:
		return min(1, 0.1*up+s.crowd(at, ramp, duration))
	}
	return up
}

// crowd is the share that comes for one title.
func (s Shape) crowd(at, ramp, duration time.Duration) float64 {
	begin := duration / 3
	if s != FlashCrowd || at < begin {
		return 0
	}
	since := at - begin
	if ramp > 0 && since < ramp {
		return 0.9 * float64(since) / float64(ramp)
	}
	rest := duration - begin - ramp
	if rest <= 0 {
		return 0.9
	}
	// Half of those that are left leave in every quarter of the rest.
	return 0.9 * math.Pow(0.5, 4*float64(since-ramp)/float64(rest))
}

// fan says how likely a play that begins now is for the crowd's title.
func (s Shape) fan(at, ramp, duration time.Duration) float64 {
	c := s.crowd(at, ramp, duration)
	return 0.8 * c / (c + 0.1)
}

func (s Shape) validate(duration time.Duration) error {
	for _, known := range Shapes() {
		if s != known {
			continue
		}
		if s != Constant && duration <= 0 {
			return services.Errorf(services.Invalid, "--shape %s changes over time and no duration is given", s).WithRemedy("say how long it takes, e.g. --duration 2m")
		}
		return nil
	}
	return services.Errorf(services.Invalid, "--shape: there is no shape %q", s).WithRemedy("use one of %s", services.List(Shapes()))
}
