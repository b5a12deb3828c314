package render

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/bubbles/spinner"
)

// Steps shows the steps of a verb: on a terminal the running one spins and is
// redrawn in place; off it each finished step is a line.
type Steps struct {
	s    Screen
	mu   sync.Mutex
	now  string
	at   time.Time
	spin spinner.Spinner
	stop chan struct{}
	done sync.WaitGroup
}

// NewSteps starts the display; call Close when the verb is done.
func NewSteps(s Screen) *Steps {
	p := &Steps{s: s, spin: spinner.MiniDot, stop: make(chan struct{})}
	if s.TTY {
		p.done.Go(p.animate)
	}
	return p
}

func (p *Steps) animate() {
	tick := time.NewTicker(p.spin.FPS)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		if p.now != "" {
			p.s.Printf("\r\x1b[K%s", p.s.clip(p.s.Warn(p.spin.Frames[n%len(p.spin.Frames)])+" "+p.now+" "+p.s.Dim(MS(float64(time.Since(p.at).Milliseconds())))))
		}
		p.mu.Unlock()
	}
}

// Begin names the step that runs now.
func (p *Steps) Begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.at = name, time.Now()
}

// Done prints a finished step.
func (p *Steps) Done(name, text string, ms float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.s.Printf("%s %-8s %8s  %s\n", p.s.Good("✓"), name, MS(ms), p.s.Dim(text))
	p.now = ""
}

// Note prints a line beside the steps.
func (p *Steps) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.s.Printf("%s %s\n", p.s.Warn("·"), text)
}

// Live redraws one line in place on a terminal and prints nothing off it.
func (p *Steps) Live(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = ""
	if p.s.TTY {
		p.s.Printf("\r\x1b[K%s", p.s.clip(fmt.Sprintf(format, args...)))
	}
}

func (p *Steps) clear() {
	if p.s.TTY {
		p.s.Printf("\r\x1b[K")
	}
}

// Close ends the display.
func (p *Steps) Close() {
	close(p.stop)
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// Indent puts spaces before every line.
func Indent(text string, n int) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+pad)
}
