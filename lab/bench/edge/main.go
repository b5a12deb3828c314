// Command edge measures the gateway as a reverse proxy beside HAProxy and
// Caddy: requests per second, processor time per request, tail latency at one
// offered load, and memory per idle connection. It starts an nginx upstream,
// both peers and "flix serve gateway" with its full chain of filters on
// loopback ports of its own, measures them in turn, several times over, and
// prints medians and their ratios beside the targets.
//
// Absolute figures move with the machine and with what else it does: only the
// ratios of one run say something, and processor time per request says it even
// on a busy machine. It is run by "make bench-edge".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/flix-lab/flix/lab/bench/child"
)

func main() {
	ctx, stop := child.Context()
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench-edge:", err)
		os.Exit(1)
	}
}

// config is what is measured, and how often.
type config struct {
	flix, caddy string
	rounds      int
	connections int
	idle        int
	span        time.Duration
	work        string
}

// sizes are the answers, in bytes, with their paths at the upstream.
var sizes = []struct {
	bytes int
	path  string
}{{15, "/15"}, {16 << 10, "/16384"}}

func run(ctx context.Context) (err error) {
	var c config
	flag.StringVar(&c.flix, "flix", "bin/flix", "the built binary")
	flag.StringVar(&c.caddy, "caddy", "caddy", "Caddy 2.11; go install github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9")
	flag.IntVar(&c.rounds, "rounds", 3, "how often each is measured, in turn")
	flag.IntVar(&c.connections, "connections", 32, "connections of the load")
	flag.IntVar(&c.idle, "idle", 2000, "idle connections whose memory is measured; 0 for none")
	flag.DurationVar(&c.span, "span", 3*time.Second, "how long each measurement lasts")
	flag.Parse()
	if c.rounds < 1 || c.connections < 1 || c.span < time.Second {
		return errors.New("-rounds and -connections must be 1 or more, -span 1s or more")
	}
	if c.flix, err = filepath.Abs(c.flix); err != nil {
		return err
	}
	if c.work, err = os.MkdirTemp("", "fxedge"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.work)) }()
	peers, err := startPeers(ctx, c)
	defer func() { peers.stop() }()
	if err != nil {
		return err
	}
	t, err := measure(ctx, c, peers)
	if err != nil {
		return err
	}
	t.print(os.Stdout, c, peers)
	return nil
}

// measure takes every figure, each of them of all peers in turn.
func measure(ctx context.Context, c config, ps *peers) (*table, error) {
	t := newTable()
	for round := range c.rounds {
		for _, size := range sizes {
			for _, p := range ps.measured {
				fmt.Fprintf(os.Stderr, "\rround %d of %d: %-8s %5d bytes ", round+1, c.rounds, p.name, size.bytes)
				before := p.cpu()
				w, err := wrk(ctx, c, p.url+size.path)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", p.name, err)
				}
				t.add(p.name, size.bytes, "req/s", w.perSecond)
				t.add(p.name, size.bytes, "cpu", (p.cpu()-before).Seconds()*1e6/float64(w.requests))
			}
		}
	}
	for _, size := range sizes {
		rate := t.median("caddy", size.bytes, "req/s") / 2
		if rate == 0 {
			rate = t.median("haproxy", size.bytes, "req/s") / 8
		}
		t.rate[size.bytes] = rate
		for round := range c.rounds {
			for _, p := range ps.measured {
				fmt.Fprintf(os.Stderr, "\rlatency %d of %d: %-8s %5d bytes at %.0f/s ", round+1, c.rounds, p.name, size.bytes, rate)
				l, err := offer(ctx, p.addr, size.path, rate, c.connections, c.span)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", p.name, err)
				}
				t.add(p.name, size.bytes, "p50", l.quantile(0.50).Seconds()*1e3)
				t.add(p.name, size.bytes, "p99", l.quantile(0.99).Seconds()*1e3)
			}
		}
	}
	fmt.Fprint(os.Stderr, "\r\033[K")
	if c.idle > 0 {
		if err := measureIdle(ctx, c, ps, t); err != nil {
			return nil, err
		}
	}
	return t, nil
}
