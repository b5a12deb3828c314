// Command registry measures the registry under the load of ten thousand
// instances that renew and fetch as the originals' clients do, beside the
// original's own server under the same load in the same run, in turns. Both are
// processes on loopback that the command starts and ends itself; what they cost
// is read in /proc. The lookup in flix's own client is measured too.
//
// Thirty seconds of the originals' intervals are what is played; the delta's
// retention is shortened on both alike, since three minutes after ten thousand
// registrations would be most of a run. It is run by "make bench-registry".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/flix-lab/flix/lab/bench/child"
)

func main() {
	ctx, stop := child.Context()
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is the load.
type config struct {
	flix      string
	instances int
	apps      int
	// interval of renewals, and of delta fetches, of each instance.
	interval time.Duration
	// fulls a second, and changes of a status a second.
	fulls, changes int
	steady         time.Duration
	rounds         int
	beside         bool // the original's server
}

// retention of the delta on both servers.
const retention = 5 * time.Second

func run(ctx context.Context) error {
	var c config
	flag.StringVar(&c.flix, "flix", "bin/flix", "the built binary")
	flag.IntVar(&c.instances, "instances", 10_000, "registered instances")
	flag.IntVar(&c.apps, "apps", 100, "applications they belong to")
	flag.DurationVar(&c.interval, "interval", 30*time.Second, "how often each renews, and fetches a delta")
	flag.IntVar(&c.fulls, "fulls", 2, "full fetches a second")
	flag.IntVar(&c.changes, "changes", 5, "statuses that change a second")
	flag.DurationVar(&c.steady, "for", 15*time.Second, "how long the load lasts, at most 1m")
	flag.IntVar(&c.rounds, "rounds", 2, "turns of each server")
	flag.BoolVar(&c.beside, "original", true, "measure the original's server too (needs Java and Maven)")
	flag.Parse()
	if c.instances < 1 || c.instances > 100_000 || c.apps < 1 || c.apps > c.instances || c.rounds < 1 || c.steady < time.Second || c.steady > time.Minute || c.interval < time.Second {
		return errors.New("-instances 1 to 100000, -apps 1 to -instances, -rounds 1 or more, -for 1s to 1m, -interval 1s or more")
	}
	servers := []server{flixServer{c.flix}}
	if c.beside {
		o, err := newOriginal(ctx)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: the original's server is not measured:", err)
		} else {
			servers = append(servers, o)
		}
	}
	all := make([][]figures, len(servers))
	for round := range c.rounds {
		for n, s := range servers {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, c.rounds, s.name())
			f, err := measure(ctx, s, c, n == 0 && round == c.rounds-1)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
			all[n] = append(all[n], f)
		}
	}
	return print(os.Stdout, c, servers, all)
}
