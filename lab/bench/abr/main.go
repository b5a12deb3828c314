// Command abr measures the player's default adaptation beside the published
// algorithms, over families of generated networks and over traces from files.
//
// Every algorithm plays the same title over the same traces in virtual time.
// The table shows per set the mean score of each, and how the default compares
// with the best of the published ones: by the mean, and on its worst trace.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("abr", flag.ContinueOnError)
	seed := f.Uint64("seed", 1, "of the generated networks")
	n := f.Int("n", 20, "traces per generated set")
	only := f.String("only", "", "run the sets whose name contains this")
	worst := f.Int("worst", 0, "list so many of the default's worst traces per set")
	cross := f.Int("crossed", 0, "instead of the families, so many sets of any network with any movie and buffer")
	quick := f.Bool("quick", false, "the default and its rivals of the calm variant only")
	var files []string
	f.Func("set", "NAME,MOVIE,SECONDS,DIR[,EVERY]: traces from a directory, every so many-th", func(s string) error { files = append(files, s); return nil })
	if err := f.Parse(args); err != nil {
		return err
	}
	var sets []set
	switch {
	case *cross > 0:
		sets = crossed(*seed, *cross, *n)
	case len(files) == 0:
		for _, fam := range append(families(), waves()...) {
			sets = append(sets, fam.sets(*seed, *n)...)
		}
	}
	for _, s := range files {
		one, err := load(s)
		if err != nil {
			return err
		}
		sets = append(sets, one)
	}
	return measure(ctx, sets, options{only: *only, worst: *worst, quick: *quick})
}
