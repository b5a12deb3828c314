package render

import (
	"strings"
	"sync"

	"github.com/charmbracelet/lipgloss"
)

// Panel redraws some lines in place on a terminal; off it, it draws nothing.
type Panel struct {
	s     Screen
	mu    sync.Mutex
	drawn []int // columns of each line
}

// NewPanel begins below what was printed so far.
func NewPanel(s Screen) *Panel { return &Panel{s: s} }

// Show draws lines in the place of those before.
func (p *Panel) Show(lines ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.s.TTY {
		return
	}
	p.clear()
	for _, l := range lines {
		l = p.s.clip(l)
		p.s.Printf("%s\n", l)
		p.drawn = append(p.drawn, lipgloss.Width(l))
	}
}

// clear takes away what was drawn. A terminal that became narrower meanwhile has
// broken the lines that no longer fit.
func (p *Panel) clear() {
	rows, w := 0, p.s.Columns()
	for _, drawn := range p.drawn {
		rows++
		if w > 0 {
			rows += max(0, drawn-1) / w
		}
	}
	if rows > 0 {
		p.s.Printf("\x1b[%dA\r\x1b[J", rows)
	}
	p.drawn = nil
}

// Close takes the panel away.
func (p *Panel) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.TTY {
		p.clear()
	}
}

// Spark draws values as a row of bars, scaled to the largest.
func Spark(values []float64) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if top > 0 {
			i = int(v / top * float64(len(bars)-1))
		}
		b.WriteRune(bars[min(max(i, 0), len(bars)-1)])
	}
	return b.String()
}

// Above prints a line that stays, above the panel; the panel comes back with
// the next Show.
func (p *Panel) Above(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.TTY {
		p.clear()
	}
	p.s.Printf("%s\n", line)
}
