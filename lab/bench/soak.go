package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"
)

// hardship is a fault that a play survives by the design: of each service that
// it takes there is another, or an answer that is remembered. (The only licence
// service of a region is none: until its lease ends nobody knows that it is gone.)
type hardship []string

// hardships of a lab of at least two regions of the presets.
var hardships = []hardship{
	{"kill", "--target", "us-east/a/play/1"}, {"kill", "--target", "us-west/b/play/2"},
	{"kill", "--target", "us-east/a/gateway/1"}, {"kill", "--target", "us-west/b/gateway/2"},
	{"restart", "--target", "us-east/b/discovery/2"}, {"restart", "--target", "us-west/a/signup/1"},
	{"kill", "--target", "us-east-isp-1"}, {"disk-slow", "--target", "us-west-isp-1", "delay=50ms"},
	{"latency", "--target", "us-east", "--to", "us-west", "delay=60ms"}, {"loss", "--target", "us-east", "--to", "us-west", "percent=2"},
	{"slow-call", "--target", "recommend", "delay=800ms"}, {"cache-flush", "--target", "us-east"},
	{"broker-down", "--target", "us-west"},
}

// over says that there is nothing to revert.
func (h hardship) over() bool { return h[0] == "restart" || h[0] == "cache-flush" }

// hardshipTime is how long each lasts.
const hardshipTime = "4s"

// writes is what is read of "flix lab check -o json".
type writes struct {
	Kinds []struct {
		Kind         string `json:"kind"`
		Acknowledged int    `json:"acknowledged"`
		Lost         int    `json:"lost"`
	} `json:"kinds"`
}

// soak plays and writes for a time while faults begin at seeded moments.
func soak(ctx context.Context, l lab, c config) ([]figure, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f, err := l.startLoad(ctx, "--players", "20", "--ramp", "5s", "--speed", "4x", "--duration", c.r.soak.String(), "--seed", fmt.Sprint(c.r.seed))
	if err != nil {
		return nil, err
	}
	type checked struct {
		w   writes
		err error
	}
	written := make(chan checked, 1)
	go func() {
		var w writes
		_, out, err := l.flixTimed(ctx, "lab", "check", "--region", "us-east", "--rate", "5", "--seconds", strconv.FormatFloat(c.r.soak.Seconds(), 'f', 0, 64), "-o", "json")
		if jerr := json.Unmarshal(out, &w); jerr != nil {
			err = errors.Join(err, jerr)
		} else {
			err = nil // what is lost is in the figures
		}
		written <- checked{w, err}
	}()
	before, after, begun, err := l.endure(ctx, c)
	if err != nil {
		stop()
		return nil, errors.Join(err, f.cmd.Process.Kill(), (<-written).err)
	}
	r, err := f.wait()
	w := <-written
	if err = errors.Join(err, w.err); err != nil {
		return nil, err
	}
	acknowledged, lost := 0, 0
	for _, k := range w.w.Kinds {
		acknowledged, lost = acknowledged+k.Acknowledged, lost+k.Lost
	}
	if r.PlaysFailed > 0 {
		fmt.Fprintf(os.Stderr, "%s\n", f.out.Bytes())
	}
	return []figure{
		{fmt.Sprintf("soak of %s with %d faults: plays that failed, of %d", c.r.soak, begun, r.Plays), fmt.Sprint(r.PlaysFailed), "0", r.PlaysFailed == 0 && r.Plays > 0},
		{"rebuffer ratio in it", fmt.Sprintf("%.4f", r.RebufferRatio), "", false},
		{"writes lost in it, of those acknowledged", fmt.Sprintf("%d of %d", lost, acknowledged), "0", lost == 0 && acknowledged > 0},
		{"memory of the lab after a third of it and at its end, Σ PSS", fmt.Sprintf("%.0f and %.0f MiB", before, after), "flat: at most 1.3 times", before > 0 && after <= 1.3*before},
	}, nil
}

// endure begins faults until shortly before the soak's end, and measures the
// lab's memory once it is warm and after the last.
func (l lab) endure(ctx context.Context, c config) (before, after float64, begun int, err error) {
	random := rand.New(rand.NewPCG(c.r.seed, 1))
	end := time.Now().Add(c.r.soak - 10*time.Second)
	if err := pause(ctx, min(10*time.Second, c.r.soak/4)); err != nil {
		return 0, 0, 0, err
	}
	warm := time.Now().Add(c.r.soak / 3) // before that caches and pools fill
	for time.Now().Before(end) {
		if before == 0 && time.Now().After(warm) {
			if before, err = l.pss(); err != nil {
				return 0, 0, 0, err
			}
		}
		h := hardships[random.IntN(len(hardships))]
		args := append([]string{"chaos", "run", "-y", "-o", "json"}, h...)
		if !h.over() {
			args = append(args, "--ttl", hardshipTime)
		}
		_, _, err := l.flixTimed(ctx, args...)
		switch {
		case err == nil:
			begun++
			fmt.Fprintf(os.Stderr, "  %s\n", strings.Join(h, " "))
		case ctx.Err() != nil:
			return 0, 0, 0, ctx.Err()
		case !strings.Contains(err.Error(), "already"): // the same one is still in force
			return 0, 0, 0, err
		}
		if err := pause(ctx, time.Duration(random.ExpFloat64()*float64(c.r.kill))); err != nil {
			return 0, 0, 0, err
		}
	}
	after, err = l.pss()
	return before, after, begun, err
}
