package evacuate

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/flix-lab/flix/lab/control"
)

// Vitals and Symptom are the control API's.
type (
	Vitals  = control.Vitals
	Symptom = control.Symptom
)

// Sentinel decides when a region is sick enough to be evacuated: a symptom has to
// show still, Patience after it began, and each has a higher threshold to begin
// than to end. After an evacuation it rests; one that did not succeed is asked for
// again, each time later, while the region is sick.
type Sentinel struct {
	// Patience until a symptom counts, Rest after an evacuation.
	Patience, Rest time.Duration
	// Retry after the first evacuation of a region that did not succeed; it
	// doubles with each, to Rest at most.
	Retry   time.Duration
	regions map[string]*vigil
	rests   time.Time // until then nothing is asked for
}

// vigil is what a sentinel knows of one region.
type vigil struct {
	at     time.Time
	counts Vitals
	// forecast of starts per second, and the latest rate.
	forecast, starts float64
	few              bool // plays begin
	// requests are all that gateways answer, plays those that begin one: these
	// are too few among all to be seen there.
	requests, plays failing
	looks           int
	since           time.Time // of the symptom; zero without
	symptom         string
	shows           bool // a symptom, at the latest look
	// wait is how long the latest evacuation that did not succeed was waited
	// for; again is when the next may be asked for.
	wait  time.Duration
	again time.Time
}

const (
	// Defaults of a sentinel.
	defaultPatience = 5 * time.Second
	defaultRest     = 5 * time.Minute
	defaultRetry    = 15 * time.Second
	// startsSick and startsWell of the forecast: below the first a region is
	// sick, above the second well again.
	startsSick, startsWell = 0.5, 0.8
	// startsChance standard deviations from the forecast are no chance.
	startsChance = 4
	// The rate of starts is that of windowStarts of them, within bounds in seconds.
	windowStarts, shortWindow, longWindow = 20.0, 5.0, 120.0
	// forecastWindows of the rate are how long the past counts for a forecast: it
	// must not follow starts that cease.
	forecastWindows = 12
	// learning is how many looks it takes until there is a forecast.
	learning = 15
)

// NewSentinel makes one with the defaults.
func NewSentinel() *Sentinel {
	return &Sentinel{Patience: defaultPatience, Rest: defaultRest, Retry: defaultRetry}
}

// Look takes one look at all regions and says what it sees; at most one region
// is to be evacuated, and never the last that is well. Who evacuates it says to
// Ended what came of it.
func (s *Sentinel) Look(now time.Time, all []Vitals) []Symptom {
	if s.regions == nil {
		s.regions = map[string]*vigil{}
	}
	out := make([]Symptom, 0, len(all))
	well := 0
	for _, v := range all {
		if v.Evacuated {
			delete(s.regions, v.Region)
			continue
		}
		g, ok := s.regions[v.Region]
		if !ok {
			g = newVigil()
			s.regions[v.Region] = g
		}
		g.look(now, v)
		if g.symptom == "" && now.Sub(g.again) > s.Rest {
			g.wait = 0
		}
		if g.symptom == "" {
			well++
		}
		x := Symptom{Region: v.Region, Text: g.symptom, Starts: g.starts, Forecast: g.forecast}
		if !g.since.IsZero() {
			x.ForS = now.Sub(g.since).Seconds()
		}
		out = append(out, x)
	}
	if well == 0 || now.Before(s.rests) {
		return out
	}
	// The one that has been sick for longest goes first.
	first := -1
	for k, x := range out {
		g := s.regions[x.Region]
		if g.shows && x.ForS >= s.Patience.Seconds() && !now.Before(g.again) && (first < 0 || x.ForS > out[first].ForS) {
			first = k
		}
	}
	if first >= 0 {
		out[first].Evacuate = true
		s.rests = now.Add(s.Rest)
	}
	return out
}

// Ended tells how the evacuation of a region that Look asked for ended, and
// returns how long none is asked for now: of any region after one that is done, of
// this one after one that is not.
func (s *Sentinel) Ended(now time.Time, region string, done bool) time.Duration {
	g, ok := s.regions[region]
	if done || !ok {
		s.rests = now.Add(s.Rest)
		return s.Rest
	}
	s.rests = time.Time{}
	g.wait = min(max(2*g.wait, s.Retry), s.Rest)
	g.again = now.Add(g.wait)
	return g.wait
}

func newVigil() *vigil {
	return &vigil{requests: failing{what: "requests"}, plays: failing{what: "plays that were to begin"}}
}

func (g *vigil) look(now time.Time, v Vitals) {
	took := now.Sub(g.at).Seconds()
	before := g.counts
	first := g.at.IsZero()
	g.at, g.counts = now, v
	if first || took <= 0 {
		return
	}
	starts := v.Starts - before.Starts
	g.looks++
	plain := 1 / float64(g.looks) // both rates begin as plain means
	rate := g.starts
	if v.PlayAPIs == before.PlayAPIs && starts >= 0 {
		rate = starts / took
		g.starts += min(max(took/g.window(), plain), 1) * (rate - g.starts)
	}
	// Counts of others than before say nothing of the time in between.
	if v.Gateways == before.Gateways {
		g.requests.add(v.Answered-before.Answered, v.Failed-before.Failed)
		g.plays.add(v.Plays-before.Plays, v.PlaysFailed-before.PlaysFailed)
	}
	g.requests.judge(took, longestWait)
	g.plays.judge(took, max(longestWait, g.window()))
	g.count()
	text := g.see(v)
	switch {
	case text == "":
		g.since, g.symptom = time.Time{}, ""
		// Only well times teach what is to be expected.
		g.forecast += min(max(took/(forecastWindows*g.window()), plain), 1) * (rate - g.forecast)
	case g.since.IsZero():
		g.since, g.symptom = now, text
	default:
		g.symptom = text
	}
}

// window is how long starts count for their rate, in seconds: they come in lumps,
// and where few begin it takes long to tell none from a pause.
func (g *vigil) window() float64 {
	if g.forecast <= 0 {
		return shortWindow
	}
	return min(max(shortWindow, windowStarts/g.forecast), longWindow)
}

// count concludes from the rate of starts whether fewer plays begin than were to
// be expected, by more than comes of chance: of starts that come independently at
// a rate r, a mean that forgets in w seconds has the variance r/(2w).
func (g *vigil) count() {
	switch {
	case g.looks < learning:
		g.few = false
	case g.few:
		g.few = g.starts < startsWell*g.forecast
	default:
		chance := startsChance * math.Sqrt(g.forecast/(2*g.window()))
		g.few = g.starts < startsSick*g.forecast && g.forecast-g.starts > chance
	}
}

// see names a symptom, and notes whether it shows now or did lately.
func (g *vigil) see(v Vitals) (text string) {
	g.shows = true
	switch {
	case v.Gateways == 0:
		return "none of its gateways answers"
	case v.Missing != "":
		return v.Missing
	case g.few:
		text = fmt.Sprintf("%.1f plays begin per second, %.1f were to be expected", g.starts, g.forecast)
	default:
		g.shows = g.plays.shows || g.requests.shows
	}
	return cmp.Or(g.plays.text, g.requests.text, text)
}
