// Command oca measures "flix serve oca" beside nginx on this machine: bytes per
// second, and bytes per second of processor time of both ends, for 2 MiB and
// 64 KiB files, plain and over TLS 1.3; the throughput of one client 100 ms
// away; and the memory that 10,000 idle connections take.
//
// It starts both servers itself on loopback and drives them with wrk, one after
// the other, round after round, so that what disturbs one disturbs the others;
// the figures are medians of the rounds' ratios. It is run by "make bench-oca".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/bench/child"
)

type config struct {
	flix   string
	rounds int
	each   time.Duration
	idle   int
	only   string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == farClient {
		os.Exit(farMain(os.Args[2:]))
	}
	ctx, stop := child.Context()
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench-oca:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var c config
	flag.StringVar(&c.flix, "flix", "bin/flix", "the built binary")
	flag.IntVar(&c.rounds, "rounds", 5, "rounds of each case")
	flag.DurationVar(&c.each, "each", 2*time.Second, "how long each server is driven in a round")
	flag.IntVar(&c.idle, "idle", 10_000, "idle connections")
	flag.StringVar(&c.only, "only", "", `parts to run, of "plain,tls,far,idle" (default all)`)
	flag.Parse()
	if c.rounds < 1 || c.each < time.Second || c.idle < 1 {
		return errors.New("-rounds and -idle must be 1 or more, -each 1s or more")
	}
	if c.flix, err = filepath.Abs(c.flix); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "fxoca")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := bench{c: c, work: work, out: os.Stdout}
	defer b.stop()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"plain", b.plain}, {"tls", b.secure}, {"far", b.far}, {"idle", b.idle}} {
		if c.only != "" && !strings.Contains(","+c.only+",", ","+part.name+",") {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}
