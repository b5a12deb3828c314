package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/flix-lab/flix/lab/player/abr/sim"
)

// terms are what the default has above the best other of a set, by the two
// terms of the score: utility − 5 · rebuffer ratio.
type terms struct{ utility, stalls float64 }

func (t terms) score() float64 { return t.utility + t.stalls }

// stallWeight is the score's.
const stallWeight = 5

// against compares the means of two contenders over the same traces.
func against(own, other []sim.Result) terms {
	a, b := sim.Mean(own), sim.Mean(other)
	return terms{a.Utility - b.Utility, stallWeight * (b.RebufferRatio - a.RebufferRatio)}
}

// tally counts one kind of network.
type tally struct {
	kind                         string
	sets, beaten, traces, misses int
	sum                          terms
}

// tallies by kind, in the order in which the kinds came.
type tallies []*tally

func (all *tallies) of(kind string) *tally {
	for _, t := range *all {
		if t.kind == kind {
			return t
		}
	}
	t := &tally{kind: kind}
	*all = append(*all, t)
	return t
}

// add a set whose default differs from its best other so.
func (t *tally) add(v verdict, d terms) {
	t.sets++
	t.traces += len(v.per)
	t.misses += v.below
	if v.margin <= 0 {
		t.beaten++
	}
	t.sum.utility += d.utility
	t.sum.stalls += d.stalls
}

// write the tallies and their total.
func (all tallies) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "network\tsets\tnot the best\ttraces\tbelow 5 %\tabove the best\tby utility\tby stalls\t")
	total := &tally{kind: "all"}
	for _, t := range append(all, total) {
		n := float64(max(t.sets, 1))
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%+.3f\t%+.3f\t%+.3f\t\n", t.kind, t.sets, t.beaten, t.traces, t.misses, t.sum.score()/n, t.sum.utility/n, t.sum.stalls/n)
		total.sets += t.sets
		total.beaten += t.beaten
		total.traces += t.traces
		total.misses += t.misses
		total.sum.utility += t.sum.utility
		total.sum.stalls += t.sum.stalls
	}
	return w.Flush()
}
