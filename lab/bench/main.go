// Command bench measures what a lab costs on this machine: the time until it is
// ready, its memory, its processor time when idle, the time it takes to end, the
// play delay of a viewer with nothing in the way, and "flix --help". It runs a built flix as a user would,
// in a state folder of its own, several times, and prints medians beside the
// targets, and beside a reference measured in the same run where there is one.
//
// With -resilience it measures an evacuation under players, what players cost,
// and a soak with random kills instead.
//
// It reads what flix reports, and memory and processor time in /proc; it never
// looks inside. It is run by "make bench" and its like.
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
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is what is measured, and how often.
type config struct {
	flix    string
	regions int
	runs    int
	plays   int
	idle    time.Duration
	// resilience measures evacuation, players and a soak instead.
	resilience bool
	r          resilience
	// containers measures the containers runtime instead; with resilience, it is
	// the runtime of the labs.
	containers bool
}

// runtime is that of the labs that resilience is measured in.
func (c config) runtime() string {
	if c.containers {
		return "containers"
	}
	return "embedded"
}

func run(ctx context.Context) (err error) {
	var c config
	flag.StringVar(&c.flix, "flix", "bin/flix", "the built binary")
	flag.IntVar(&c.regions, "regions", 3, "regions of the lab")
	flag.IntVar(&c.runs, "runs", 5, "labs that are brought up and down")
	flag.IntVar(&c.plays, "plays", 10, "plays, spread over the runs")
	flag.DurationVar(&c.idle, "idle", 10*time.Second, "how long each lab is left alone")
	flag.BoolVar(&c.containers, "containers", false, "measure the containers runtime beside its stores alone; with -resilience, measure that on containers")
	flag.BoolVar(&c.resilience, "resilience", false, "measure an evacuation under players, what players cost, and a soak")
	c.r.flags()
	flag.Parse()
	if c.runs < 1 || c.plays < 1 || c.idle < time.Second {
		return errors.New("-runs and -plays must be 1 or more, -idle 1s or more")
	}
	if c.flix, err = filepath.Abs(c.flix); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "fxbench")
	if err != nil {
		return err
	}
	l := lab{flix: c.flix, work: work}
	defer func() {
		err = errors.Join(err, l.clean(context.WithoutCancel(ctx)))
	}()
	if c.resilience {
		return measureResilience(ctx, l, c, os.Stdout)
	}
	if c.containers {
		return measureContainers(ctx, l, c, os.Stdout)
	}
	r, err := measure(ctx, l, c)
	if err != nil {
		return err
	}
	return r.print(os.Stdout, c)
}

// measure does all the runs; one more comes first, whose figures do not count:
// it brings the binary into the page cache.
func measure(ctx context.Context, l lab, c config) (results, error) {
	var r results
	steps := map[string][]float64{}
	for n := range c.runs + 1 {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", n, c.runs)
		one, err := once(ctx, l, c, n)
		if err != nil {
			return r, err
		}
		if n == 0 {
			continue
		}
		r.upWall = append(r.upWall, one.upWall)
		r.ready = append(r.ready, one.up.ReadyMS)
		r.reported = append(r.reported, one.reported)
		r.pss = append(r.pss, one.pss)
		r.downWall = append(r.downWall, one.downWall)
		r.help = append(r.help, one.help)
		r.goHelp = append(r.goHelp, one.goHelp)
		r.idle = append(r.idle, one.idle)
		r.delay = append(r.delay, one.delay...)
		r.https = append(r.https, one.https...)
		r.instances = one.up.Instances
		for _, s := range one.up.Steps {
			steps[s.Name] = append(steps[s.Name], s.MS)
		}
	}
	r.steps = rank(steps)
	return r, nil
}

// single is what one lab's life gave.
type single struct {
	up                             upReport
	upWall, downWall, help, goHelp float64 // ms
	reported, pss                  float64 // MiB
	idle                           float64 // CPU seconds per minute
	delay, https                   []float64
}

func once(ctx context.Context, l lab, c config, n int) (single, error) {
	var s single
	var err error
	if s.upWall, err = l.flixJSON(ctx, &s.up, "lab", "up", "--runtime", "embedded", "--regions", fmt.Sprint(c.regions), "-o", "json"); err != nil {
		return s, err
	}
	// Both sums are taken one after the other: the lab breathes a little.
	var status struct {
		RSSBytes float64 `json:"rss_bytes"`
	}
	if _, err := l.flixJSON(ctx, &status, "lab", "status", "-o", "json"); err != nil {
		return s, err
	}
	s.reported = status.RSSBytes / (1 << 20)
	if s.pss, err = l.pss(); err != nil {
		return s, err
	}
	plays := (c.plays + c.runs - 1) / c.runs
	for range plays {
		var p struct {
			PlayDelayMS float64 `json:"play_delay_ms"`
			ChecksumOK  bool    `json:"checksum_ok"`
		}
		if _, err := l.flixJSON(ctx, &p, "play", "--title", "harbor-lights", "--region", "us-east", "--seconds", "6", "--speed", "100x", "-o", "json"); err != nil {
			return s, err
		}
		if !p.ChecksumOK {
			return s, errors.New("a play's checksum was wrong")
		}
		s.delay = append(s.delay, p.PlayDelayMS)
	}
	if n > 0 { // the first run does not count
		if s.idle, err = l.idleCPU(ctx, c.idle); err != nil {
			return s, err
		}
	}
	for range plays {
		ms, err := exchange(ctx)
		if err != nil {
			return s, err
		}
		s.https = append(s.https, ms)
	}
	if s.downWall, _, err = l.flixTimed(ctx, "lab", "down"); err != nil {
		return s, err
	}
	if s.help, _, err = l.flixTimed(ctx, "--help"); err != nil {
		return s, err
	}
	s.goHelp, _, err = timed(ctx, nil, "go", "help")
	return s, err
}
