package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/record"
)

// resilience is what is measured under players.
type resilience struct {
	players, light int
	pack           string
	watch          time.Duration
	soak           time.Duration
	kill           time.Duration
	seed           uint64
	only           string
}

func (r *resilience) flags() {
	flag.StringVar(&r.pack, "pack", "zone", "what shares a container, with -containers: instance or zone")
	flag.IntVar(&r.players, "players", 500, "players of the evacuation")
	flag.DurationVar(&r.watch, "watch", 9400*time.Millisecond, "media that each of their plays lasts: with what comes before, one begins every ten seconds")
	flag.IntVar(&r.light, "light", 1000, "light players at most; halved until no segment is late")
	flag.DurationVar(&r.soak, "soak", time.Minute, "how long the soak takes; 0 leaves it out")
	flag.DurationVar(&r.kill, "kill", 10*time.Second, "mean time between the soak's faults")
	flag.StringVar(&r.only, "only", "", "the one part to measure: evacuation, light or soak; it fails when a target is missed")
	flag.Uint64Var(&r.seed, "seed", 1, "of everything random")
}

// loadResult is what is read of "flix load -o json".
type loadResult struct {
	Players       int     `json:"players"`
	Plays         int     `json:"plays"`
	PlaysFailed   int     `json:"plays_failed"`
	RebufferRatio float64 `json:"rebuffer_ratio"`
	StalledPlays  int     `json:"stalled_plays"`
	PlayDelay     struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"play_delay_ms"`
	Bytes float64 `json:"bytes"`
}

// figure is a line of the table; target "" is none, and met counts only beside
// one.
type figure struct {
	what, measured, target string
	met                    bool
}

// measureResilience runs each part in a lab of its own.
func measureResilience(ctx context.Context, l lab, c config, w io.Writer) error {
	var all []figure
	parts := []struct {
		name string
		do   func(context.Context, lab, config) ([]figure, error)
	}{{"evacuation", evacuation}, {"light", lightPlayers}, {"soak", soak}}
	if names := []string{"", "evacuation", "light", "soak"}; !slices.Contains(names, c.r.only) {
		return fmt.Errorf("-only: there is no part %q; use one of %s", c.r.only, strings.Join(names[1:], ", "))
	}
	for _, p := range parts {
		if p.name == "soak" && c.r.soak == 0 || c.r.only != "" && p.name != c.r.only {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s\n", p.name)
		up := []string{"lab", "up", "--runtime", c.runtime(), "--regions", fmt.Sprint(c.regions)}
		if c.containers {
			up = append(up, "--pack", c.r.pack)
		}
		if _, _, err := l.flixTimed(ctx, up...); err != nil {
			return err
		}
		fs, err := p.do(ctx, l, c)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, fs...)
		if _, _, err := l.flixTimed(ctx, "lab", "down"); err != nil {
			return err
		}
	}
	var b strings.Builder
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "%s runtime, %d regions, %s/%s, %d CPUs, seed %d; load average of the machine at the end %s\n\n| Figure | Measured | Target |\n|---|---|---|\n",
		c.runtime(), c.regions, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), c.r.seed, strings.Join(strings.Fields(string(load))[:3], " "))
	for _, f := range all {
		verdict := f.target
		if f.target != "" && f.met {
			verdict += ", met"
		} else if f.target != "" {
			verdict += ", missed"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", f.what, f.measured, verdict)
	}
	if _, err = io.WriteString(w, b.String()); err != nil || c.r.only == "" {
		return err
	}
	return missed(all)
}

// missed names the figures that do not meet their target.
func missed(all []figure) error {
	var out []error
	for _, f := range all {
		if f.target != "" && !f.met {
			out = append(out, fmt.Errorf("%s: %s, wanted %s", f.what, f.measured, f.target))
		}
	}
	return errors.Join(out...)
}

// fleet is a "flix load" under way.
type fleet struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
}

func (l lab) startLoad(ctx context.Context, args ...string) (*fleet, error) {
	f := &fleet{}
	f.cmd = exec.CommandContext(ctx, l.flix, append([]string{"load", "-o", "json"}, args...)...)
	f.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+l.work, "TMPDIR="+l.work)
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.err
	return f, f.cmd.Start()
}

// wait returns the report, whatever the verdict was.
func (f *fleet) wait() (loadResult, error) {
	var r loadResult
	err := f.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, err
	}
	if jerr := json.Unmarshal(f.out.Bytes(), &r); jerr != nil {
		return r, fmt.Errorf("flix load: %w\n%s", errors.Join(err, jerr), f.err.Bytes())
	}
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// dnsTTL of the lab's timing, ms.
const dnsTTL = 2000

// startEvery is how often each player of the evacuation begins a play.
const startEvery = 10 * time.Second

// meanRate is the mean over time of a record's series of rates. Each is that of the
// time since the look before, so that the first says nothing.
func meanRate(r record.Record, name string) (float64, error) {
	for _, s := range r.Series {
		if s.Name != name || len(s.Points) < 2 {
			continue
		}
		sum, began := 0.0, s.Points[0].At
		last := began
		for _, p := range s.Points[1:] {
			sum += p.Value * (p.At - last)
			last = p.At
		}
		return sum / (last - began), nil
	}
	return 0, fmt.Errorf("the record %s has no two looks of %q", r.ID, name)
}

// evacuation evacuates and returns a region under light players.
func evacuation(ctx context.Context, l lab, c config) ([]figure, error) {
	ramp := 2 * c.r.watch
	f, err := l.startLoad(ctx, "--mode", "light", "--players", fmt.Sprint(c.r.players), "--ramp", ramp.String(), "--watch", c.r.watch.String(),
		"--duration", (ramp + 45*time.Second).String(), "--leaves", "0", "--seeks", "0", "--seed", fmt.Sprint(c.r.seed))
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, ramp+5*time.Second); err != nil {
		return nil, err
	}
	var move struct {
		ID          string  `json:"id"`
		RTOMS       float64 `json:"rto_ms"`
		PlaysFailed int     `json:"plays_failed"`
	}
	if _, err := l.flixJSON(ctx, &move, "failover", "us-east", "--yes", "-o", "json"); err != nil {
		return nil, errors.Join(err, f.cmd.Process.Kill())
	}
	var rep record.Record
	if _, err := l.flixJSON(ctx, &rep, "report", move.ID, "-o", "json"); err != nil {
		return nil, errors.Join(err, f.cmd.Process.Kill())
	}
	of := map[string]float64{}
	for _, x := range rep.Figures {
		of[x.Name] = x.Value
	}
	r, err := f.wait()
	if err != nil {
		return nil, err
	}
	starts, err := meanRate(rep, "starts")
	if err != nil {
		return nil, err
	}
	want := float64(c.r.players) / startEvery.Seconds()
	return []figure{
		{fmt.Sprintf("evacuation under %d players: plays that failed, of %d", c.r.players, r.Plays), fmt.Sprint(r.PlaysFailed), "0", r.PlaysFailed == 0},
		{"starts per second meanwhile", fmt.Sprintf("%.1f", starts), fmt.Sprintf("%.0f", want), starts >= want},
		{"plays that stalled", fmt.Sprint(r.StalledPlays), "0", r.StalledPlays == 0},
		{"rebuffer ratio before, during and after", fmt.Sprintf("%.4f, %.4f, %.4f", of["rebuffer ratio before"], of["rebuffer ratio during"], of["rebuffer ratio after"]), "", false},
		{"RTO, with a DNS TTL of 2 s", fmt.Sprintf("%.0f ms", move.RTOMS), fmt.Sprintf("%d ms", 2*dnsTTL), move.RTOMS <= 2*dnsTTL},
		{"writes lost, of those acknowledged", fmt.Sprintf("%.0f of %.0f", of["lost writes"], of["writes acknowledged"]), "0", of["lost writes"] == 0 && of["writes acknowledged"] > 0},
	}, nil
}

// cost is what a process uses.
type cost struct{ kib, cpu float64 }

func costOf(pid int) (cost, error) {
	var c cost
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return c, err
	}
	for line := range strings.Lines(string(rollup)) {
		if _, err := fmt.Sscanf(line, "Anonymous: %f kB", &c.kib); err == nil {
			break
		}
	}
	if c.kib == 0 {
		return c, fmt.Errorf("process %d: the kernel counts no anonymous memory", pid)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return c, err
	}
	ticks, err := readTicks(string(stat))
	c.cpu = ticks / ticksPerSecond
	return c, err
}

// leastLight players end the halving.
const leastLight = 8

// lightPlayers measures what light players cost, and how many play without a
// late segment: it halves their number until none is.
func lightPlayers(ctx context.Context, l lab, c config) ([]figure, error) {
	base, _, _, err := costOfLoad(ctx, l, c, 1)
	if err != nil {
		return nil, err
	}
	var out []figure
	for n := c.r.light; ; n /= 2 {
		peak, r, mbit, err := costOfLoad(ctx, l, c, n)
		if err != nil {
			return nil, err
		}
		if n == c.r.light {
			kib := (peak.kib - base.kib) / float64(n)
			core := 100 * peak.cpu / mbit
			out = append(out,
				figure{fmt.Sprintf("%d light players at 1x: memory of one", n), fmt.Sprintf("%.0f KiB", kib), "100 KiB", kib <= 100},
				figure{"processor time for 1 Mbit/s, of a core", fmt.Sprintf("%.3f %%", core), "0.05 %", core <= 0.05},
				figure{"plays that failed, and stalled, of them", fmt.Sprintf("%d and %d of %d", r.PlaysFailed, r.StalledPlays, r.Plays), "", false})
		}
		most := figure{"most light players without a failed play or a late segment, by halving", fmt.Sprint(n), "", false}
		if r.PlaysFailed == 0 && r.StalledPlays == 0 {
			return append(out, most), nil
		}
		if n <= leastLight {
			most.measured = fmt.Sprintf("not even %d", n)
			return append(out, most), nil
		}
	}
}

// costOfLoad runs light players for a while. It returns their memory once all
// watch, their processor time, the report, and how many Mbit they received.
func costOfLoad(ctx context.Context, l lab, c config, n int) (cost, loadResult, float64, error) {
	ramp := max(time.Duration(float64(n)/40*float64(time.Second)), time.Second) // 40 starts a second
	const hold = 40 * time.Second
	f, err := l.startLoad(ctx, "--mode", "light", "--players", fmt.Sprint(n), "--ramp", ramp.String(), "--duration", (ramp + hold).String(),
		"--leaves", "0", "--seeks", "0", "--seed", fmt.Sprint(c.r.seed))
	if err != nil {
		return cost{}, loadResult{}, 0, err
	}
	if err := pause(ctx, ramp+hold-5*time.Second); err != nil {
		return cost{}, loadResult{}, 0, err
	}
	now, err := costOf(f.cmd.Process.Pid)
	if err != nil {
		return cost{}, loadResult{}, 0, errors.Join(err, f.cmd.Process.Kill())
	}
	r, err := f.wait()
	if err != nil {
		return cost{}, loadResult{}, 0, err
	}
	now.cpu = (f.cmd.ProcessState.UserTime() + f.cmd.ProcessState.SystemTime()).Seconds()
	return now, r, max(8*r.Bytes/1e6, 0.001), nil
}
