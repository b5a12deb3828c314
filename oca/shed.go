package oca

import (
	"cmp"
	"slices"
)

// The thresholds of the governor, as shares of the bottleneck. Between
// restoreBelow and shedAbove nothing changes, so that what was shed does not
// come straight back.
const (
	shedAbove    = 0.9
	shedTo       = 0.75
	restoreBelow = 0.6
	// patienceAbove is after how many looks above shedAbove titles are shed,
	// patienceBelow after how many below restoreBelow the last one returns.
	patienceAbove = 2
	patienceBelow = 4
	// fullAt is the load of an appliance that can do no more; after
	// patienceFull looks with nothing left to shed it calls itself unwell.
	fullAt       = 0.98
	patienceFull = 4
)

// governor decides what an overloaded appliance asks steering to send
// elsewhere: first some titles, and only when that does not help everything
// (per-title shedding before the whole server, as Traffic Control has it). It
// decides by looks at the load; it does no I/O. Not safe for concurrent use.
type governor struct {
	shed              []string // in the order in which they were shed
	above, below, too int      // looks in a row
	overloaded        bool
}

// look takes the load of the bottleneck, 0 to 1, and the bytes sent by title
// since the last look.
func (g *governor) look(load float64, bytes map[string]int64) {
	g.above, g.below = count(g.above, load > shedAbove), count(g.below, load < restoreBelow)
	if g.above >= patienceAbove {
		g.above = 0
		g.more(load, bytes)
	}
	// Viewers of shed titles play on here, so a full line says nothing while
	// there are titles to shed.
	left := slices.ContainsFunc(titlesOf(bytes), func(t string) bool { return !slices.Contains(g.shed, t) })
	g.too = count(g.too, load >= fullAt && !left)
	switch {
	case g.too >= patienceFull:
		g.overloaded = true
	case load < shedAbove:
		g.overloaded = false
	}
	if g.below >= patienceBelow && len(g.shed) > 0 {
		g.below = 0
		g.shed = g.shed[:len(g.shed)-1]
	}
}

func count(n int, more bool) int {
	if more {
		return n + 1
	}
	return 0
}

// more sheds titles until the rest would load the appliance to shedTo: those
// with most traffic first, since few are then sent away and most others hold
// them. At least one is shed.
func (g *governor) more(load float64, bytes map[string]int64) {
	total, going := int64(0), int64(0)
	var open []string
	for _, t := range titlesOf(bytes) {
		total += bytes[t]
		if slices.Contains(g.shed, t) {
			going += bytes[t]
		} else {
			open = append(open, t)
		}
	}
	slices.SortStableFunc(open, func(a, b string) int { return cmp.Compare(bytes[b], bytes[a]) })
	excess := int64(float64(total)*(1-shedTo/load)) - going
	for i, t := range open {
		if i > 0 && excess <= 0 {
			break
		}
		g.shed = append(g.shed, t)
		excess -= bytes[t]
	}
}

func titlesOf(bytes map[string]int64) []string {
	out := make([]string, 0, len(bytes))
	for t, n := range bytes {
		if n > 0 {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return out
}
