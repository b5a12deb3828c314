package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// line is one figure of every server.
type line struct {
	what, unit string
	of         func([]figures) float64
	// less says that less is better.
	less bool
}

func print(w io.Writer, c config, servers []server, all [][]figures) error {
	lines := []line{
		{"registrations a second, 32 at once", "/s", mean(func(f figures) float64 { return f.registerRate }), false},
		{"processor time of one registration", "µs", mean(func(f figures) float64 { return f.registerCPU }), true},
		{"requests answered a second, under the load", "/s", mean(func(f figures) float64 { return f.rate }), false},
		{"cores used meanwhile", "", mean(func(f figures) float64 { return f.cores }), true},
		{"memory after it (VmRSS)", "MiB", mean(func(f figures) float64 { return f.memory }), true},
		{"renewal, p50", "ms", quantile(0.5, func(f figures) []float64 { return f.renew }), true},
		{"renewal, p99", "ms", quantile(0.99, func(f figures) []float64 { return f.renew }), true},
		{"delta fetch, p50", "ms", quantile(0.5, func(f figures) []float64 { return f.delta }), true},
		{"delta fetch, p99", "ms", quantile(0.99, func(f figures) []float64 { return f.delta }), true},
		{"delta, zipped", "KiB", kib(func(f figures) []float64 { return f.deltaBytes }), true},
		{"full fetch, p50", "ms", quantile(0.5, func(f figures) []float64 { return f.full }), true},
		{"full fetch, p99", "ms", quantile(0.99, func(f figures) []float64 { return f.full }), true},
		{"full, zipped", "KiB", kib(func(f figures) []float64 { return f.fullBytes }), true},
		{"requests that failed", "", mean(func(f figures) float64 { return float64(f.failed) }), true},
	}
	fmt.Fprintf(w, "registry: %d instances of %d applications, each renewing and fetching a delta every %s; %d full fetches and %d changes a second, for %s, %d turns\n\n",
		c.instances, c.apps, c.interval, c.fulls, c.changes, c.steady, c.rounds)
	fmt.Fprintf(w, "%-44s", "")
	for _, s := range servers {
		fmt.Fprintf(w, "%18s", s.name())
	}
	fmt.Fprintf(w, "%10s\n%s\n", "ratio", strings.Repeat("-", 44+18*len(servers)+10))
	for _, l := range lines {
		fmt.Fprintf(w, "%-44s", l.what)
		var v []float64
		for n := range servers {
			v = append(v, l.of(all[n]))
			fmt.Fprintf(w, "%18s", strings.TrimSpace(fmt.Sprintf("%.4g %s", v[n], l.unit)))
		}
		if len(v) > 1 && v[1] > 0 {
			fmt.Fprintf(w, "%10.3f", v[0]/v[1])
		} else {
			fmt.Fprintf(w, "%10s", "-")
		}
		if !l.less {
			fmt.Fprint(w, "  (more is better)")
		}
		fmt.Fprintln(w)
	}
	last := all[0][len(all[0])-1]
	_, err := fmt.Fprintf(w, "\nlookup of a VIP in flix's client, %d instances known: %.1f ns, %.0f allocations, no I/O (target: no I/O)\n", c.instances, last.lookupNS, last.lookupAllocs)
	if len(servers) == 1 {
		fmt.Fprintln(w, "The original's server was not measured: there is nothing to compare with.")
	}
	return err
}

func mean(of func(figures) float64) func([]figures) float64 {
	return func(all []figures) float64 {
		sum := 0.0
		for _, f := range all {
			sum += of(f)
		}
		return sum / float64(len(all))
	}
}

// quantile of all turns together.
func quantile(q float64, of func(figures) []float64) func([]figures) float64 {
	return func(all []figures) float64 {
		var v []float64
		for _, f := range all {
			v = append(v, of(f)...)
		}
		if len(v) == 0 {
			return 0
		}
		slices.Sort(v)
		return v[min(len(v)-1, int(q*float64(len(v))))]
	}
}

func kib(of func(figures) []float64) func([]figures) float64 {
	half := quantile(0.5, of)
	return func(all []figures) float64 { return half(all) / 1024 }
}
