package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
)

// results are the figures of all runs: times in ms, memory in MiB.
type results struct {
	upWall, ready, downWall, help, goHelp []float64
	reported, pss                         []float64
	delay, https                          []float64
	idle                                  []float64 // CPU seconds per minute
	steps                                 []step
	instances                             int
}

// step is a named part of "flix lab up" with its median in ms.
type step struct {
	name string
	ms   float64
}

// rank returns the medians of the steps, the slowest first.
func rank(all map[string][]float64) []step {
	var out []step
	for name, ms := range all {
		out = append(out, step{name, median(ms)})
	}
	slices.SortFunc(out, func(a, b step) int {
		switch {
		case a.ms > b.ms:
			return -1
		case a.ms < b.ms:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return out
}

// median of an even number of figures is the mean of the two in the middle.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	n := len(s) / 2
	if len(s)%2 == 1 {
		return s[n]
	}
	return (s[n-1] + s[n]) / 2
}

// row is one line of the table.
type row struct {
	what   string
	values []float64
	unit   string
	target float64 // at most; 0 for none
	// reference is measured in the same run, named by what it is of.
	reference []float64
	of        string
}

func (r results) rows(regions int) []row {
	target := func(t float64) float64 { // they are of three regions
		if regions != 3 {
			return 0
		}
		return t
	}
	return []row{
		{"a title played from every region (ready_ms)", r.ready, "ms", target(1500), nil, "none: nothing else builds this"},
		{"`flix lab up` until it returns, fill included", r.upWall, "ms", 0, nil, "none"},
		{"memory of the lab, Σ PSS in /proc", r.pss, "MiB", target(300), r.reported, "rss_bytes as reported"},
		{"processor time of an idle lab, per minute", r.idle, "s", 0, nil, "none"},
		{"`flix lab down`", r.downWall, "ms", target(500), nil, "none"},
		{"`flix --help`", r.help, "ms", 50, r.goHelp, "`go help`"},
		{"play delay of an unshaped player", r.delay, "ms", 60, r.https, "one HTTPS request on a new connection"},
	}
}

func (r results) print(w io.Writer, c config) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d regions, %d instances, embedded runtime, %s/%s, %d CPUs; medians of %d runs (play delay: of %d plays), least and most in brackets\n\n",
		c.regions, r.instances, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), len(r.upWall), len(r.delay))
	b.WriteString("| Figure | Measured | Target | Reference in the same run | Ratio |\n|---|---|---|---|---|\n")
	for _, x := range r.rows(c.regions) {
		m := median(x.values)
		target, reference, ratio := "", x.of, ""
		if x.target > 0 {
			target = fmt.Sprintf("%.0f %s, %s", x.target, x.unit, verdict(m, x.target))
		}
		if ref := median(x.reference); ref > 0 {
			reference = fmt.Sprintf("%.1f %s: %s", ref, x.unit, x.of)
			ratio = fmt.Sprintf("%.2f", m/ref)
		}
		fmt.Fprintf(&b, "| %s | %.1f %s (%.1f–%.1f) | %s | %s | %s |\n", x.what, m, x.unit, slices.Min(x.values), slices.Max(x.values), target, reference, ratio)
	}
	b.WriteString("\nWhat `flix lab up` spends its time on:")
	for n, s := range r.steps {
		if n > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s %.0f ms", s.name, s.ms)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func verdict(measured, target float64) string {
	if measured <= target {
		return "met"
	}
	return "missed"
}
