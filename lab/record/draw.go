package record

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures of the picture, in pixels.
const (
	drawWidth  = 900
	drawLeft   = 130
	drawRight  = 20
	drawRow    = 22 // height of a phase
	drawChart  = 90 // height of a series
	drawGap    = 14
	drawLabels = 24 // height of the axis
)

// scale maps seconds to pixels.
type scale struct{ seconds float64 }

func (s scale) x(at float64) float64 {
	return drawLeft + min(max(at/s.seconds, 0), 1)*(drawWidth-drawLeft-drawRight)
}

// SVG draws a record's phases, marks and series over one time axis.
func SVG(r Record) string {
	sc := scale{max(r.Seconds(), lastPoint(r), 0.001)}
	var b strings.Builder
	y := drawGap
	for _, p := range r.Phases {
		x := sc.x(p.From)
		w := max(sc.x(p.To)-x, 1.5)
		fmt.Fprintf(&b, `<text class="l" x="%d" y="%d">%s</text>`, drawLeft-8, y+15, html.EscapeString(clip(p.Name)))
		fmt.Fprintf(&b, `<rect class="p" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s</title></rect>`, x, y+3, w, drawRow-6,
			html.EscapeString(fmt.Sprintf("%s: %.2f to %.2f s. %s", p.Name, p.From, p.To, p.Text)))
		y += drawRow
	}
	y += drawGap
	top := y
	for _, s := range r.Series {
		y = drawSeries(&b, sc, s, y)
	}
	for _, m := range r.Marks {
		class := "m"
		if m.Bad {
			class = "m bad"
		}
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"><title>%s</title></line>`, class, sc.x(m.At), sc.x(m.At), drawGap, max(y, top),
			html.EscapeString(fmt.Sprintf("%.2f s: %s", m.At, m.Text)))
	}
	drawAxis(&b, sc, y)
	y += drawLabels
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="timeline"><style>%s</style>%s</svg>`, drawWidth, y, drawStyle, b.String())
}

const drawStyle = `text{font:12px sans-serif;fill:currentColor}.l{text-anchor:end}.p{fill:#3b82f6;opacity:.75}.s{fill:none;stroke:#e11d48;stroke-width:1.5}` +
	`.f{fill:#e11d48;opacity:.12}.m{stroke:#64748b;stroke-dasharray:3 3}.bad{stroke:#dc2626}.a{stroke:#94a3b8}`

func drawSeries(b *strings.Builder, sc scale, s Series, y int) int {
	top := 0.0
	for _, p := range s.Points {
		if !math.IsInf(p.Value, 0) && !math.IsNaN(p.Value) {
			top = max(top, p.Value)
		}
	}
	floor := float64(y + drawChart)
	height := func(v float64) float64 {
		if top <= 0 || math.IsNaN(v) {
			return floor
		}
		return floor - min(max(v/top, 0), 1)*(drawChart-18)
	}
	fmt.Fprintf(b, `<text class="l" x="%d" y="%d">%s</text><text class="l" x="%d" y="%d">%s</text>`, drawLeft-8, y+20, html.EscapeString(clip(s.Name)),
		drawLeft-8, y+36, html.EscapeString(Value(top, s.Unit)+" max"))
	fmt.Fprintf(b, `<line class="a" x1="%d" x2="%d" y1="%d" y2="%d"/>`, drawLeft, drawWidth-drawRight, y+drawChart, y+drawChart)
	if len(s.Points) > 0 {
		var line strings.Builder
		for _, p := range s.Points {
			fmt.Fprintf(&line, "%.1f,%.1f ", sc.x(p.At), height(p.Value))
		}
		first, last := sc.x(s.Points[0].At), sc.x(s.Points[len(s.Points)-1].At)
		fmt.Fprintf(b, `<polygon class="f" points="%.1f,%.1f %s%.1f,%.1f"/><polyline class="s" points="%s"/>`, first, floor, line.String(), last, floor, strings.TrimSpace(line.String()))
	}
	return y + drawChart + drawGap
}

func drawAxis(b *strings.Builder, sc scale, y int) {
	const ticks = 6
	for i := range ticks + 1 {
		at := sc.seconds * float64(i) / ticks
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, sc.x(at), y+14, Value(at, "s"))
	}
}

// clip shortens a label to what there is room for.
func clip(s string) string {
	if r := []rune(s); len(r) > 18 {
		return string(r[:17]) + "…"
	}
	return s
}

func lastPoint(r Record) float64 {
	last := 0.0
	for _, s := range r.Series {
		if n := len(s.Points); n > 0 {
			last = max(last, s.Points[n-1].At)
		}
	}
	for _, p := range r.Phases {
		last = max(last, p.To)
	}
	return last
}

// Value prints a figure with its unit as a person reads it.
func Value(v float64, unit string) string {
	var s string
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e15:
		s = fmt.Sprintf("%.0f", v)
	case a >= 100:
		s = fmt.Sprintf("%.0f", v)
	case a >= 1:
		s = fmt.Sprintf("%.2f", v)
	default:
		s = fmt.Sprintf("%.4f", v)
	}
	if unit != "" {
		s += " " + unit
	}
	return s
}

// Bar draws a phase as a bar of text, width columns for seconds.
func (p Phase) Bar(seconds float64, width int) string {
	if seconds <= 0 {
		return strings.Repeat(" ", width)
	}
	from := min(int(column(p.From, seconds, width)), width-1)
	to := max(int(math.Ceil(column(p.To, seconds, width))), from+1)
	return strings.Repeat("·", from) + strings.Repeat("█", to-from) + strings.Repeat("·", width-to)
}

// column of a time, within a width.
func column(at, seconds float64, width int) float64 {
	if !(seconds > 0) {
		return 0
	}
	return min(max(at/seconds*float64(width), 0), float64(width))
}

// Bars draws a series as a bar of text: the mean of each of
// width columns.
func (s Series) Bars(seconds float64, width int) (bars string, top float64) {
	sums, n := make([]float64, width), make([]int, width)
	for _, p := range s.Points {
		i := min(int(column(p.At, seconds, width)), width-1)
		sums[i] += p.Value
		n[i]++
	}
	last := -1
	for i := range sums {
		if n[i] > 0 {
			sums[i] /= float64(n[i])
			top = max(top, sums[i])
			last = i
		}
	}
	for i := 1; i < last; i++ { // few points: each holds until the next
		if n[i] == 0 && n[i-1] > 0 {
			sums[i], n[i] = sums[i-1], n[i-1]
		}
	}
	glyphs := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for i, v := range sums {
		switch {
		case n[i] == 0:
			b.WriteRune(' ')
		case top <= 0:
			b.WriteRune(glyphs[0])
		default:
			b.WriteRune(glyphs[min(max(int(v/top*float64(len(glyphs)-1)+0.5), 0), len(glyphs)-1)])
		}
	}
	return b.String(), top
}
