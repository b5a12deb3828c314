package tui

import (
	"slices"
	"strings"
)

// sparkline draws the newest samples, one a column, between 0 and top; the
// newest is the last.
func sparkline(samples []float64, width int, top float64) string {
	if width <= 0 {
		return ""
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	samples = samples[max(0, len(samples)-width):]
	var b strings.Builder
	for _, v := range samples {
		i := 0
		if top > 0 && v > 0 {
			// Anything above nothing shows.
			i = max(1, min(len(levels)-1, int(v/top*float64(len(levels)-1)+0.5)))
		}
		b.WriteRune(levels[i])
	}
	return b.String()
}

// peak is the greatest sample within the newest n of any row; rows drawn
// against it can be compared.
func peak(rows map[string][]float64, n int) float64 {
	top := 0.0
	for _, r := range rows {
		if r = r[max(0, len(r)-n):]; len(r) > 0 {
			top = max(top, slices.Max(r))
		}
	}
	return top
}
