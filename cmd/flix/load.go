package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/player"
	"github.com/flix-lab/flix/lab/traffic"
	"github.com/flix-lab/flix/services"
)

type loadOptions struct {
	c            traffic.Config
	mode, shape  string
	speed        string
	seed         int64
	isps, traces []string
	limits       traffic.Limits
	out          output
}

func newLoadCmd(a *app) *cobra.Command {
	o := loadOptions{}
	c := &cobra.Command{
		Use: "load", Short: "Many viewers at once, and a verdict", Args: cobra.NoArgs,
		Annotations: map[string]string{whenInterrupted: "what there was is reported; run the same command again: it begins anew"},
		Long: `Runs a fleet of players against the lab, from this process. Each is a whole
session over sockets of its own: it resolves names, signs in, looks at the home
page, searches, plays, perhaps jumps or walks away, and reports. With a duration
each player watches title after title; without one each watches once.

Modes: full checks every segment as flix play does; light receives every byte
and keeps none, adapts by throughput alone, and needs the least memory; head
makes every call to the control plane and asks an appliance for one head: no
media. The report says which it was.

It ends with 0 only when the verdict holds: no more plays failed than
--max-failed and a rebuffer ratio of at most --max-rebuffer. Ctrl-C lets the
viewers walk away and reports what there is.`,
		Example: "  flix load --players 50 --ramp 10s --duration 1m\n  flix load --players 1000 --mode light --speed 1x --duration 2m -o json\n  flix load --players 200 --shape flashcrowd --duration 3m --traces mobile,cell",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.parse(cmd.Flags().Changed("seed")); err != nil {
				return err
			}
			return runLoad(cmd.Context(), a, o)
		},
	}
	f := c.Flags()
	f.IntVar(&o.c.Players, "players", 10, "players at most at once")
	f.DurationVar(&o.c.Ramp, "ramp", 0, "time until all players watch, e.g. 30s")
	f.DurationVar(&o.c.Duration, "duration", 0, "how long the load goes on; 0: until each player has watched once")
	f.StringVar(&o.shape, "shape", string(traffic.Constant), "constant, diurnal, spike or flashcrowd: how many watch over the duration")
	f.StringVar(&o.c.Choose, "titles", traffic.Zipf, "zipf, uniform, or ids of titles with commas")
	f.StringSliceVar(&o.isps, "isps", nil, "ISPs of the viewers, with commas; all without")
	f.StringSliceVar(&o.traces, "traces", nil, "network traces that shape access links, with commas: "+strings.Join(fixtures.Traces(), ", ")+", all, or files; without, links are not shaped")
	f.StringVar(&o.mode, "mode", string(player.Full), "full, light or head")
	f.StringVar(&o.speed, "speed", "1x", "speed of the playback clocks and of the traces, e.g. 10x")
	f.DurationVar(&o.c.Watch, "watch", 0, "media that a play lasts; 0: the whole title")
	f.Float64Var(&o.c.Seeks, "seeks", 0.1, "share of plays with a jump")
	f.Float64Var(&o.c.Leaves, "leaves", 0.2, "share of plays that the viewer walks away from")
	f.Int64Var(&o.seed, "seed", 0, "the same seed makes the same plays; without, each load differs")
	f.IntVar(&o.limits.Failed, "max-failed", 0, "plays that may fail")
	f.Float64Var(&o.limits.RebufferRatio, "max-rebuffer", 0.01, "largest rebuffer ratio: stalled time of the time watched")
	f.StringVar(&o.c.Email, "email", "", "member that everybody signs in as; without, the fleet makes members of its own")
	f.StringVar(&o.c.Password, "password", "", "password of that member")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func (o *loadOptions) parse(seeded bool) error {
	if err := o.out.check(); err != nil {
		return err
	}
	var err error
	if o.c.Speed, err = parseSpeed(o.speed); err != nil {
		return err
	}
	o.c.Mode, o.c.Shape = player.Mode(o.mode), traffic.Shape(o.shape)
	if !slices.Contains(player.Modes(), o.c.Mode) {
		return services.Errorf(services.Invalid, "--mode: there is no mode %q", o.mode).WithRemedy("use full, light or head")
	}
	if o.limits.Failed < 0 {
		return services.Errorf(services.Invalid, "--max-failed: %d is below 0", o.limits.Failed).WithRemedy("write it like 0: no play may fail")
	}
	if !(o.limits.RebufferRatio >= 0) {
		return services.Errorf(services.Invalid, "--max-rebuffer: %g is not 0 or more", o.limits.RebufferRatio).WithRemedy("write it like 0.01, stalled time of the time watched")
	}
	if (o.c.Email == "") != (o.c.Password == "") {
		return services.Errorf(services.Invalid, "--email and --password go together")
	}
	o.c.Seed = uint64(o.seed)
	if !seeded {
		o.c.Seed = rand.Uint64()
	}
	return o.c.Validate()
}

// lightGC is how much garbage a light load lets grow, in percent of what lives.
const lightGC = 50

// lightPlayers at 1x are what one processor bears, three times over.
const lightPlayers = 1000

// lightProcessors is how many processors a light load runs on, of those there
// are. It sleeps most of the time: with more than it needs, each wakes the others
// to look for work, and finds none for them.
func lightProcessors(players int, speed float64, have int) int {
	return min(have, int(math.Ceil(float64(players)*max(speed, 1)/lightPlayers)))
}

func runLoad(ctx context.Context, a *app, o loadOptions) error {
	client, paths, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	if o.c.Mode == player.Light {
		// Memory before processor time: that is what the mode is for.
		defer debug.SetGCPercent(debug.SetGCPercent(lightGC))
		have := runtime.GOMAXPROCS(0)
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(lightProcessors(o.c.Players, o.c.Speed, have)))
	}
	msg := a.env.errOut()
	view := newLoadView(msg, o.c)
	o.c.Observe = view.second
	res, err := lab.Load(ctx, client, o.c, o.isps, o.traces)
	view.close()
	if err != nil {
		return err
	}
	holds, why := res.Verdict(o.limits)
	id, rerr := lab.KeepLoad(paths, o.c, o.limits, res)
	if o.out.machine() {
		if err := o.out.print(a, res.Report); err != nil {
			return err
		}
		for _, e := range res.Errors { // the data have no room for it
			msg.Printf("%s %d × %s\n", msg.Warn("!"), e.Plays, e.Text)
		}
	} else {
		printLoad(a.env.out(), o, res, holds)
	}
	rerr = a.again(id, rerr)
	switch {
	case res.Interrupted:
		return errors.Join(context.Canceled, rerr)
	case !holds:
		return errors.Join(services.Errorf(services.Conflict, "the verdict does not hold: %s", strings.Join(why, "; ")).
			WithReason(lab.ReasonVerdict).WithRemedy("flix events and flix lab status show what the lab was like; --max-failed and --max-rebuffer set the limits"), rerr)
	}
	return rerr
}

// loadView shows a load while it goes on: a panel on a terminal, a line a
// second off it.
type loadView struct {
	panel *render.Panel
	s     render.Screen
	c     traffic.Config
	trend []float64 // starts per second
}

func newLoadView(s render.Screen, c traffic.Config) *loadView {
	s.Printf("%s, %s, %s mode at %gx, seed %d\n", services.Count(c.Players, "player"), c.Shape, c.Mode, c.Speed, c.Seed)
	return &loadView{panel: render.NewPanel(s), s: s, c: c}
}

func (v *loadView) close() { v.panel.Close() }

// trendSeconds are drawn.
const trendSeconds = 60

func (v *loadView) second(x traffic.Second) {
	if !v.s.TTY {
		v.s.Printf("%4.0fs  active %d  starts/s %.1f  plays %d  failed %d  %s  rebuffer %.4f  delay p50 %s p99 %s\n",
			x.At.Seconds(), x.Active, x.Starts, x.Plays, x.Failed, bitRate(x.Kbps), x.RebufferRatio, delay(x.P50), delay(x.P99))
		return
	}
	v.trend = append(v.trend, x.Starts)
	if len(v.trend) > trendSeconds {
		v.trend = v.trend[1:]
	}
	at := x.At.Round(time.Second).String()
	if v.c.Duration > 0 {
		at += " of " + v.c.Duration.String()
	}
	failed := v.s.Good("0")
	if x.Failed > 0 {
		failed = v.s.Bad(strconv.Itoa(x.Failed))
	}
	v.panel.Show(
		fmt.Sprintf("%s  %s mode", v.s.Bold(at), v.c.Mode),
		fmt.Sprintf("players   %s %d of %d", render.Bar(100*float64(x.Active)/float64(v.c.Players), 20), x.Active, v.c.Players),
		fmt.Sprintf("starts/s  %6.1f  %s", x.Starts, render.Spark(v.trend)),
		fmt.Sprintf("plays     %d ended, %s failed", x.Plays, failed),
		fmt.Sprintf("rebuffer  %.4f now, %.4f in all", x.RebufferRatio, x.TotalRebufferRatio),
		fmt.Sprintf("delay     p50 %s  p99 %s", delay(x.P50), delay(x.P99)),
		fmt.Sprintf("media     %s", bitRate(x.Kbps)),
	)
}

func bitRate(kbps float64) string {
	if kbps >= 1000 {
		return fmt.Sprintf("%.1f Mbit/s", kbps/1000)
	}
	return fmt.Sprintf("%.0f kbit/s", kbps)
}

// delay is a play delay for people; of no start there is none.
func delay(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return render.MS(ms)
}

func printLoad(s render.Screen, o loadOptions, r traffic.Result, holds bool) {
	s.Printf("%s by up to %s in %s, %s mode: %d failed, %d stalled, %d walked away from\n",
		s.Bold(services.Count(r.Plays, "play")), services.Count(r.Players, "player"), r.Elapsed.Round(100*time.Millisecond), r.Mode, r.PlaysFailed, r.StalledPlays, r.Left)
	s.Printf("  starts %.1f/s · play delay p50 %s, p99 %s · rebuffer ratio %.4f · mean %.0f kbit/s · %s\n",
		r.StartsPerSecond, delay(r.PlayDelay.P50), delay(r.PlayDelay.P99), r.RebufferRatio, r.MeanKbps, render.Bytes(r.Bytes))
	for _, e := range r.Errors {
		s.Printf("  %s %d × %s\n", s.Warn("!"), e.Plays, e.Text)
	}
	verdict := s.Good("the verdict holds")
	if !holds {
		verdict = s.Bad("the verdict does not hold")
	}
	s.Printf("%s: at most %d failed, rebuffer ratio at most %g\n", verdict, o.limits.Failed, o.limits.RebufferRatio)
}
