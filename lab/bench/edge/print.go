package main

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
)

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 1<<10) }

// key names a figure.
type key struct {
	peer  string
	bytes int
	what  string
}

// table holds what was measured.
type table struct {
	figures map[key][]float64
	rate    map[int]float64 // offered for the latencies, by size
}

func newTable() *table {
	return &table{figures: make(map[key][]float64), rate: make(map[int]float64)}
}

func (t *table) add(peer string, bytes int, what string, v float64) {
	k := key{peer, bytes, what}
	t.figures[k] = append(t.figures[k], v)
}

// median of an even number of figures is the mean of the two in the middle; 0
// if there are none.
func (t *table) median(peer string, bytes int, what string) float64 {
	s := slices.Sorted(slices.Values(t.figures[key{peer, bytes, what}]))
	n := len(s)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// ratio of flix to a peer, round by round, and of these the median: rounds
// differ more than servers do within one. 0 if there is none.
func (t *table) ratio(to string, bytes int, what string) float64 {
	ours, theirs := t.figures[key{"flix", bytes, what}], t.figures[key{to, bytes, what}]
	r := newTable()
	for k := range min(len(ours), len(theirs)) {
		if theirs[k] > 0 {
			r.add("", 0, "", ours[k]/theirs[k])
		}
	}
	return r.median("", 0, "")
}

func (t *table) print(w io.Writer, c config, ps *peers) {
	fmt.Fprintf(w, "%d processors, %d connections, %d rounds of %s; medians\n", runtime.NumCPU(), c.connections, c.rounds, c.span)
	for _, v := range ps.versions {
		fmt.Fprintln(w, v)
	}
	for _, m := range ps.missing {
		fmt.Fprintln(w, m)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\nanswer\tserver\treq/s\tCPU µs/req\tp50 ms\tp99 ms\toffered/s\t")
	for _, s := range sizes {
		for _, p := range ps.measured {
			fmt.Fprintf(tw, "%d B\t%s\t%.0f\t%.1f\t%.2f\t%.2f\t%.0f\t\n", s.bytes, p.name, t.median(p.name, s.bytes, "req/s"), t.median(p.name, s.bytes, "cpu"),
				t.median(p.name, s.bytes, "p50"), t.median(p.name, s.bytes, "p99"), t.rate[s.bytes])
		}
	}
	_ = tw.Flush()
	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nflix to\tanswer\tfigure\tratio\ttarget\t")
	for _, r := range t.ratios() {
		fmt.Fprintf(tw, "%s\t%d B\t%s\t%.2f\t%s\t%s\n", r.peer, r.bytes, r.what, r.value, r.target, r.verdict())
	}
	_ = tw.Flush()
	if c.idle > 0 {
		fmt.Fprintf(w, "\nmemory per idle connection, KiB of resident memory over %d:", c.idle)
		for _, p := range append(ps.measured[:len(ps.measured):len(ps.measured)], ps.tls) {
			if p != nil {
				fmt.Fprintf(w, "  %s %.1f", p.name, t.median(p.name, 0, "idle"))
			}
		}
		fmt.Fprintln(w)
	}
}

// ratio is one line of the second table. A limit of 0 is no target.
type ratio struct {
	peer   string
	bytes  int
	what   string
	value  float64
	limit  float64
	atMost bool
	target string
}

func (r ratio) verdict() string {
	switch {
	case r.limit == 0:
		return ""
	case r.atMost == (r.value <= r.limit):
		return "met"
	case !r.atMost && r.value >= r.limit:
		return "met"
	}
	return "missed"
}

func (t *table) ratios() []ratio {
	var out []ratio
	for _, s := range sizes {
		for _, r := range []ratio{
			{peer: "haproxy", what: "req/s", limit: 0.75, target: "≥ 0.75"},
			{peer: "caddy", what: "req/s", limit: 3, target: "≥ 3"},
			{peer: "haproxy", what: "p99", limit: 1.5, atMost: true, target: "≤ 1.5"},
			{peer: "haproxy", what: "cpu", target: "(per request)"},
			{peer: "caddy", what: "cpu", target: "(per request)"},
		} {
			r.bytes = s.bytes
			if r.value = t.ratio(r.peer, s.bytes, r.what); r.value > 0 {
				out = append(out, r)
			}
		}
	}
	return out
}
