package evacuate

import (
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

// Sentinel decides when a region is sick enough to be evacuated: for as long as
// Patience one of its symptoms has to stay, and each symptom has a higher
// threshold to begin than to end. After one evacuation it rests.
type Sentinel struct {
	// Patience until a symptom counts, Rest after an evacuation.
	Patience, Rest time.Duration
	regions        map[string]*vigil
	last           time.Time // an evacuation was asked for
}

// vigil is what a sentinel knows of one region.
type vigil struct {
	at     time.Time
	counts Vitals
	// forecast of starts per second, and the latest rate.
	forecast, starts float64
	few              bool // plays begin
	// answered and failed are requests that nothing was concluded from yet, for
	// so many looks; failing is what was concluded from the latest.
	answered, failed float64
	waiting          int
	failing          string
	looks            int
	since            time.Time // of the symptom; zero without
	symptom          string
}

const (
	// Defaults of a sentinel.
	defaultPatience = 5 * time.Second
	defaultRest     = 5 * time.Minute
	// startsSick and startsWell of the forecast: below the first a region is
	// sick, above the second well again.
	startsSick, startsWell = 0.5, 0.8
	// startsChance standard deviations from the forecast are no chance.
	startsChance = 4
	// The rate of starts is that of windowStarts of them, within bounds in seconds.
	windowStarts, shortWindow, longWindow = 20.0, 5.0, 120.0
	// errorsSick and errorsWell are shares of the answers. Fewer answers than
	// leastAnswers are looked at together with the next; when so few come for
	// longestWait looks, they say nothing any more.
	errorsSick, errorsWell, leastAnswers, longestWait = 0.1, 0.02, 5, 3
	// forecastWindows of the rate are how long the past counts for a forecast: it
	// must not follow starts that cease.
	forecastWindows = 12
	// learning is how many looks it takes until there is a forecast.
	learning = 15
)

// NewSentinel makes one with the defaults.
func NewSentinel() *Sentinel { return &Sentinel{Patience: defaultPatience, Rest: defaultRest} }

// Look takes one look at all regions and says what it sees; at most one region
// is to be evacuated, and never the last that is well.
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
			g = &vigil{}
			s.regions[v.Region] = g
		}
		g.look(now, v)
		if g.symptom == "" {
			well++
		}
		x := Symptom{Region: v.Region, Text: g.symptom, Starts: g.starts, Forecast: g.forecast}
		if !g.since.IsZero() {
			x.ForS = now.Sub(g.since).Seconds()
		}
		out = append(out, x)
	}
	if well == 0 || !s.last.IsZero() && now.Sub(s.last) < s.Rest {
		return out
	}
	// The one that has been sick for longest goes first.
	i := 0
	for k, x := range out {
		if x.ForS > out[i].ForS {
			i = k
		}
	}
	if out[i].Text != "" && out[i].ForS >= s.Patience.Seconds() {
		out[i].Evacuate = true
		s.last = now
	}
	return out
}

func (g *vigil) look(now time.Time, v Vitals) {
	took := now.Sub(g.at).Seconds()
	before := g.counts
	first := g.at.IsZero()
	g.at, g.counts = now, v
	if first || took <= 0 {
		return
	}
	answered, failed, starts := v.Answered-before.Answered, v.Failed-before.Failed, v.Starts-before.Starts
	// Counts of others than before, or of one that started anew, say nothing of
	// the time in between.
	if v.Gateways != before.Gateways || answered < 0 || failed < 0 {
		answered, failed = 0, 0
	}
	g.looks++
	plain := 1 / float64(g.looks) // both rates begin as plain means
	rate := g.starts
	if v.PlayAPIs == before.PlayAPIs && starts >= 0 {
		rate = starts / took
		g.starts += min(max(took/g.window(), plain), 1) * (rate - g.starts)
	}
	g.judge(answered, failed)
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

// judge concludes from answers whether too many requests fail. Once too many do,
// the share to be well again is lower, and a lull is no sign of health.
func (g *vigil) judge(answered, failed float64) {
	g.answered, g.failed = g.answered+answered, g.failed+failed
	bad := errorsSick
	if g.failing != "" {
		bad = errorsWell
	}
	switch g.waiting++; {
	case g.answered >= leastAnswers && g.failed > bad*g.answered:
		g.failing = fmt.Sprintf("%.0f of %.0f requests fail", g.failed, g.answered)
	case g.answered >= leastAnswers || g.waiting >= longestWait:
		g.failing = ""
	default:
		return
	}
	g.answered, g.failed, g.waiting = 0, 0, 0
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

// see names a symptom.
func (g *vigil) see(v Vitals) string {
	switch {
	case v.Gateways == 0:
		return "none of its gateways answers"
	case v.Missing != "":
		return v.Missing
	case g.failing != "":
		return g.failing
	case g.few:
		return fmt.Sprintf("%.1f plays begin per second, %.1f were to be expected", g.starts, g.forecast)
	}
	return ""
}
