package evacuate

import (
	"fmt"
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
	looks            int
	since            time.Time // of the symptom; zero without
	symptom          string
}

const (
	// Defaults of a sentinel.
	defaultPatience = 5 * time.Second
	defaultRest     = 5 * time.Minute
	// startsSick and startsWell of the forecast: below the first a region is
	// sick, above the second well again. Forecasts below leastStarts per second
	// say nothing.
	startsSick, startsWell, leastStarts = 0.5, 0.8, 0.5
	// errorsSick and errorsWell are shares of the answers.
	errorsSick, errorsWell, leastAnswers = 0.1, 0.02, 5
	// forecastTime is how long the past counts for a forecast.
	forecastTime = 60.0
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
	if v.PlayAPIs == before.PlayAPIs && starts >= 0 {
		// Starts come in lumps: the rate is a mean of some seconds.
		g.starts += min(took/5, 1) * (starts/took - g.starts)
	}
	g.looks++
	text := g.see(v, answered, failed)
	switch {
	case text == "":
		g.since, g.symptom = time.Time{}, ""
		// Only well times teach what is to be expected.
		weight := min(took/forecastTime, 1)
		if g.looks < learning {
			weight = 1 / float64(g.looks)
		}
		g.forecast += weight * (g.starts - g.forecast)
	case g.since.IsZero():
		g.since, g.symptom = now, text
	default:
		g.symptom = text
	}
}

// see names a symptom; while there is one already, the threshold to be well is
// higher.
func (g *vigil) see(v Vitals, answered, failed float64) string {
	sick := g.symptom != ""
	bad, low := errorsSick, startsSick
	if sick {
		bad, low = errorsWell, startsWell
	}
	switch {
	case v.Gateways == 0:
		return "none of its gateways answers"
	case v.Missing != "":
		return v.Missing
	case answered >= leastAnswers && failed > bad*answered:
		return fmt.Sprintf("%.0f of %.0f requests fail", failed, answered)
	case g.looks >= learning && g.forecast >= leastStarts && g.starts < low*g.forecast:
		return fmt.Sprintf("%.1f plays begin per second, %.1f were to be expected", g.starts, g.forecast)
	}
	return ""
}
