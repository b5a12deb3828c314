package main

import (
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab/control"
)

// moveView shows a region that moves: the phases that are over as lines, and on
// a terminal a panel of what is going on below them.
type moveView struct {
	verb  string
	s     render.Screen
	steps *render.Steps // off a terminal
	panel *render.Panel

	mu     sync.Mutex
	share  float64
	trends map[string][]float64 // requests per second, by region
}

func newMoveView(s render.Screen, verb string) *moveView {
	v := &moveView{verb: verb, s: s, trends: map[string][]float64{}}
	if s.TTY {
		v.panel = render.NewPanel(s)
	} else {
		v.steps = render.NewSteps(s)
	}
	return v
}

func (v *moveView) close() {
	if v.panel != nil {
		v.panel.Close()
		return
	}
	v.steps.Close()
}

// heard is a control.Progress.
func (v *moveView) heard(e control.Event) {
	look := e.Kind == v.verb+".look"
	if v.panel == nil {
		if !look { // the plain log keeps to what happens
			showSteps(v.steps, v.verb)(e)
		}
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case look:
		v.look(e.Data)
	case e.Kind == v.verb+".step":
		ms, _ := e.Data["ms"].(float64)
		name, _ := e.Data["step"].(string)
		v.panel.Above(fmt.Sprintf("%s %-8s %8s  %s", v.s.Good("✓"), name, render.MS(ms), v.s.Dim(e.Text)))
	default:
		if share, ok := e.Data["share"].(float64); ok {
			v.share = share
		}
		v.panel.Above(fmt.Sprintf("%s %s", v.s.Warn("·"), e.Text))
	}
}

// number reads a figure of an event.
func number(data map[string]any, name string) float64 {
	f, _ := data[name].(float64)
	return f
}

func (v *moveView) look(data map[string]any) {
	lines := []string{fmt.Sprintf("at the savers %s %.0f %%", render.Bar(100*v.share, 20), 100*v.share)}
	rates, _ := data["requests"].(map[string]any)
	names := make([]string, 0, len(rates))
	for name := range rates {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		rate, _ := rates[name].(float64)
		t := append(v.trends[name], rate)
		if len(t) > 40 {
			t = t[1:]
		}
		v.trends[name] = t
		lines = append(lines, fmt.Sprintf("%-12s %7.1f requests/s  %s", name, rate, render.Spark(t)))
	}
	failed := fmt.Sprintf("%.0f", number(data, "failed"))
	if number(data, "failed") > 0 {
		failed = v.s.Bad(failed)
	}
	lines = append(lines,
		fmt.Sprintf("plays %.0f under way, %.1f starts/s, rebuffer ratio %.4f", number(data, "playing"), number(data, "starts"), number(data, "rebuffer")),
		fmt.Sprintf("errors %s · latency mean %s, p99 %s", failed, render.MS(number(data, "mean_ms")), render.MS(number(data, "p99_ms"))))
	v.panel.Show(strings.Split(strings.Join(lines, "\n"), "\n")...)
}
