package render

import (
	"strings"
	"sync"
)

// Panel redraws some lines in place on a terminal; off it, it draws nothing.
type Panel struct {
	s     Screen
	mu    sync.Mutex
	lines int
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
		p.s.Printf("%s\n", l)
	}
	p.lines = len(lines)
}

// clear takes away what was drawn. A line longer than the terminal is wide
// would leave a rest: callers keep them short.
func (p *Panel) clear() {
	if p.lines > 0 {
		p.s.Printf("\x1b[%dA\x1b[J", p.lines)
	}
	p.lines = 0
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
