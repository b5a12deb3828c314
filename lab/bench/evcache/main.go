// Command evcache measures the EVCache client beside gomemcache, the plain
// memcached client for Go, in one run and on the same servers: what an operation
// takes at the median and at the 99th percentile, what the client adds to the
// latter, and what either allocates. The two take turns of a thousand operations,
// and the figures are the medians of the turns', so that whatever else the
// machine does hits both, or none. The target is for one caller; with more than
// there are processors the 99th percentile is their scheduler's, so those rows
// have none.
//
// The servers are the embedded one and, where /usr/bin/memcached or another on
// PATH is installed, the real one; it starts and ends them itself, on loopback.
// It is run by "make bench-evcache".
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/flix-lab/flix/lab/bench/child"
)

// targetAdded is what the client may add to gomemcache's 99th percentile.
const targetAdded = 50 * time.Microsecond

func main() {
	ctx, stop := child.Context()
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench evcache:", err)
		os.Exit(1)
	}
}

// config is how much is measured.
type config struct {
	ops, turn int
	callers   []int
}

func run(ctx context.Context, out io.Writer) (err error) {
	c := config{callers: []int{1, 16}}
	asJSON := flag.Bool("json", false, "print JSON")
	alone := flag.Bool("serve", false, "run the embedded server alone, until interrupted")
	flag.IntVar(&c.ops, "ops", 30_000, "operations of each kind, client and number of callers")
	flag.IntVar(&c.turn, "turn", 1000, "operations of one client before it is the other's turn")
	flag.Parse()
	if *alone {
		return serve(ctx, out)
	}
	if c.turn < 1 || c.ops < c.turn {
		return errors.New("-turn must be 1 or more, -ops as much or more")
	}
	var all []result
	for _, s := range servers() {
		addr, end, err := s.start(ctx)
		if errors.Is(err, errNoBinary) {
			fmt.Fprintf(os.Stderr, "%s: %v\n", s.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		rs, err := measure(ctx, s.name, addr, c)
		end()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		all = append(all, rs...)
	}
	if *asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	return table(out, all)
}

// table prints the results beside the target.
func table(out io.Writer, all []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "server\toperation\tcallers\tgomemcache p50\tp99\tflix p50\tp99\tadded p99\ttarget\tmet\tallocs/op gomemcache\tflix\tB/op gomemcache\tflix\t")
	met := true
	for _, r := range all {
		target, ok := fmt.Sprintf("≤ %.0f µs", us(targetAdded)), "yes"
		switch {
		case r.Callers > 1:
			target, ok = "-", "-"
		case r.AddedP99US > us(targetAdded):
			ok, met = "NO", false
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.1f µs\t%.1f µs\t%.1f µs\t%.1f µs\t%+.1f µs\t%s\t%s\t%.1f\t%.1f\t%.0f\t%.0f\t\n",
			r.Server, r.Operation, r.Callers, r.Peer.P50US, r.Peer.P99US, r.Flix.P50US, r.Flix.P99US, r.AddedP99US, target, ok,
			r.Peer.Allocs, r.Flix.Allocs, r.Peer.Bytes, r.Flix.Bytes)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !met {
		_, err := fmt.Fprintln(out, "a target was missed: with other work on the machine run it again, or with more -ops")
		return err
	}
	return nil
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
