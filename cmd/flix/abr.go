package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/player/abr/sim"
	"github.com/flix-lab/flix/services"
)

func newABRCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "abr", Short: "Try the player's adaptation on network traces"}
	c.AddCommand(newSimulateCmd(a))
	return c
}

type simulateOptions struct {
	networks  []string
	movie     string
	algorithm string
	bola      string
	bufferS   float64
	out       output
}

// simulated is the stable JSON form of a simulation.
type simulated struct {
	Algorithm string           `json:"algorithm"`
	Movie     string           `json:"movie"`
	BufferS   float64          `json:"buffer_s"`
	Traces    []simulatedTrace `json:"traces"`
	Mean      sim.Result       `json:"mean"`
}

type simulatedTrace struct {
	File string `json:"file"`
	sim.Result
}

func newSimulateCmd(a *app) *cobra.Command {
	o := simulateOptions{}
	c := &cobra.Command{
		Use: "simulate", Short: "Play a movie over network traces in virtual time", Args: cobra.NoArgs,
		Long: `Plays a movie over network traces in virtual time, with the adaptation that the
player itself runs, and scores it. No lab is needed.

The formats are those of the public simulator Sabre. A network is a JSON array
of {duration_ms, bandwidth_kbps, latency_ms}, and loops; a directory stands for
every .json file in it. A movie is {segment_duration_ms, bitrates_kbps[],
segment_sizes_bits[segment][rung]}.

Per trace and as their mean: utility is the average of ln(bit rate / lowest)
played; rebuffer_ratio is stalled time / session; rebuffer_events counts stalls;
bitrate_kbps and change_kbps are averages of what was played and of its changes;
and score = (sum of utilities - 5 * stall / segment) * segment / session.`,
		Example: "  flix abr simulate --network 3g.json --network 4g.json --movie movie.json\n  flix abr simulate --network traces/ --movie movie.json --algorithm bolae",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return runSimulate(cmd.Context(), a, o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.networks, "network", nil, "file of a network trace, or a directory of them; may be given many times")
	f.StringVar(&o.movie, "movie", "", "file of the movie")
	f.StringVar(&o.algorithm, "algorithm", abr.Names()[0], "one of "+strings.Join(abr.Names(), ", "))
	f.Float64Var(&o.bufferS, "buffer", 25, "most media that is buffered, in seconds")
	f.StringVar(&o.bola, "bola-variant", "o", "of bola, bolae and dynamic: o (few switches; Sabre's -ao, what is published) or u (more utility; Sabre without -ao)")
	_ = c.MarkFlagRequired("network") // the flags are there
	_ = c.MarkFlagRequired("movie")
	_ = c.RegisterFlagCompletionFunc("algorithm", cobra.FixedCompletions(abr.Names(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("bola-variant", cobra.FixedCompletions([]string{"o", "u"}, cobra.ShellCompDirectiveNoFileComp))
	o.out.flag(c, "text", "json", "yaml")
	return c
}

// longestBuffer bounds --buffer, seconds.
const longestBuffer = 3600

func (o *simulateOptions) check() error {
	if err := o.out.check(); err != nil {
		return err
	}
	if !abr.Known(o.algorithm) {
		return services.Errorf(services.Invalid, "--algorithm: there is no %q", o.algorithm).WithRemedy("use one of %s", strings.Join(abr.Names(), ", "))
	}
	if o.bola != "o" && o.bola != "u" {
		return services.Errorf(services.Invalid, "--bola-variant: there is no %q", o.bola).WithRemedy("use o or u")
	}
	if !(o.bufferS > 0 && o.bufferS <= longestBuffer) {
		return services.Errorf(services.Invalid, "--buffer: %g seconds is not above 0 and at most %d", o.bufferS, longestBuffer).WithRemedy("25 is usual for films, 10 for live events")
	}
	return nil
}

func (o *simulateOptions) variant() abr.Variant {
	if o.bola == "u" {
		return abr.Eager
	}
	return abr.Calm
}

func runSimulate(ctx context.Context, a *app, o simulateOptions) error {
	ladder, err := readABR(ctx, o.movie, "--movie", sim.ParseMovie)
	if err != nil {
		return err
	}
	files, err := networkFiles(o.networks)
	if err != nil {
		return err
	}
	r := simulated{Algorithm: o.algorithm, Movie: o.movie, BufferS: o.bufferS, Traces: make([]simulatedTrace, len(files))}
	if err := simulateAll(ctx, o, ladder, files, r.Traces); err != nil {
		return err
	}
	results := make([]sim.Result, len(r.Traces))
	for i, t := range r.Traces {
		results[i] = t.Result
	}
	r.Mean = sim.Mean(results)
	if o.out.machine() {
		return o.out.print(a, r)
	}
	return printSimulated(a, r)
}

// simulateAll plays over every trace, as many at once as there are processors.
func simulateAll(ctx context.Context, o simulateOptions, ladder abr.Ladder, files []string, into []simulatedTrace) error {
	var (
		wg   sync.WaitGroup
		slot = make(chan struct{}, runtime.GOMAXPROCS(0))
		errs = make([]error, len(files))
	)
	for i, file := range files {
		slot <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slot }()
			into[i].File = file
			into[i].Result, errs[i] = simulateOne(ctx, o, ladder, file)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, err := range errs {
		if err != nil {
			return err // of the first file: that is enough to mend
		}
	}
	return nil
}

func simulateOne(ctx context.Context, o simulateOptions, ladder abr.Ladder, file string) (sim.Result, error) {
	trace, err := readABR(ctx, file, "--network", sim.ParseNetwork)
	if err != nil {
		return sim.Result{}, err
	}
	algo, err := abr.New(o.algorithm, ladder, o.bufferS*1000, o.variant())
	if err != nil {
		return sim.Result{}, err
	}
	r, err := sim.Play(ladder, trace, o.bufferS*1000, algo)
	if err == nil && (math.IsNaN(r.Score) || math.IsInf(r.Score, 0)) {
		err = services.Errorf(services.Invalid, "the numbers of the trace are too large to reckon with: the score is %g", r.Score).WithRemedy("write durations and latencies in milliseconds, bandwidths in kbit/s")
	}
	return r, services.Wrap(file, err)
}

// readABR opens a file and parses it.
func readABR[T any](ctx context.Context, file, flag string, parse func(io.Reader, string) (T, error)) (out T, err error) {
	f, err := input.Open(ctx, file)
	switch {
	case ctx.Err() != nil:
		return out, ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return out, services.Errorf(services.NotFound, "%s: there is no file %s", flag, file).WithRemedy("name a JSON file")
	case err != nil:
		return out, &services.Error{Op: flag, Kind: services.Invalid, Msg: "the file cannot be opened", Err: err, Remedy: "name a file that can be read"}
	}
	defer f.Close()
	return parse(f, file)
}

// networkFiles puts the files of a directory in its place.
func networkFiles(named []string) ([]string, error) {
	var out []string
	for _, n := range named {
		info, err := os.Stat(n)
		if err != nil || !info.IsDir() {
			out = append(out, n) // opening it says what is wrong
			continue
		}
		inside, err := filepath.Glob(filepath.Join(escapeGlob(n), "*.json"))
		if err != nil {
			return nil, services.Errorf(services.Invalid, "--network: %s: %v", n, err)
		}
		if len(inside) == 0 {
			return nil, services.Errorf(services.NotFound, "--network: there is no .json file in %s", n).WithRemedy("name trace files, or a directory that holds some")
		}
		out = append(out, inside...)
	}
	return out, nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func printSimulated(a *app, r simulated) error {
	s := a.env.out()
	row := func(name string, x sim.Result) []string {
		return []string{name, fmt.Sprintf("%.3f", x.Score), fmt.Sprintf("%.3f", x.Utility), fmt.Sprintf("%.4f", x.RebufferRatio), fmt.Sprintf("%.4g", x.RebufferEvents), fmt.Sprintf("%.0f", x.BitrateKbps), fmt.Sprintf("%.0f", x.ChangeKbps)}
	}
	var rows [][]string
	for _, t := range r.Traces {
		rows = append(rows, row(t.File, t.Result))
	}
	rows = append(rows, row("mean of "+fmt.Sprint(len(r.Traces)), r.Mean))
	s.Printf("%s, buffer %g s, %s\n", s.Bold(r.Algorithm), r.BufferS, r.Movie)
	return s.Table([]string{"network", "score", "utility", "rebuffering", "stalls", "kbit/s", "changes"}, rows)
}
