package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
)

type monkeyOptions struct {
	r     lab.MonkeyRequest
	hours string
	out   output
}

func newMonkeyCmd(a *app) *cobra.Command {
	var o monkeyOptions
	c := &cobra.Command{
		Use: "monkey", Short: "Kill instances at random, as Chaos Monkey does; leashed at first", Args: cobra.NoArgs,
		Annotations: map[string]string{whenInterrupted: "what it killed returns by itself; run the same command again: it begins anew"},
		Long: `Visits each group (a service in a region, a site's appliances) and kills one of
its instances at random, with a mean time in between, within hours, and not what
is excepted. On its leash, which is the default, it only says what it would do.
The same seed and lab give the same schedule. What would leave no region or
break a quorum is spared.`,
		Example: `  flix chaos monkey --mean 5m --for 1h
  flix chaos monkey --unleash --only play,gateway --except us-east --for 10m`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			if err := o.read(); err != nil {
				return err
			}
			return runMonkey(cmd.Context(), a, o)
		},
	}
	fl := c.Flags()
	fl.BoolVar(&o.r.Unleash, "unleash", false, "really kill")
	fl.DurationVar(&o.r.Mean, "mean", 5*time.Minute, "mean time between two kills of a group")
	fl.DurationVar(&o.r.Last, "for", 10*time.Minute, "how long it works")
	fl.Uint64Var(&o.r.Seed, "seed", 1, "of the schedule")
	fl.DurationVar(&o.r.TTL, "ttl", 20*time.Second, "after which an instance it killed runs again")
	fl.StringSliceVar(&o.r.Only, "only", nil, "only these targets (services, zones, regions, instances, sites)")
	fl.StringSliceVar(&o.r.Except, "except", nil, "never these targets")
	fl.StringVar(&o.hours, "hours", "", "only within these hours, local time, like 09:00-15:00")
	fl.BoolVar(&o.r.Weekdays, "weekdays", false, "not on Saturdays and Sundays")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func (o *monkeyOptions) read() error {
	if o.r.Last <= 0 || o.r.Last > 24*time.Hour {
		return services.Errorf(services.Invalid, "--for: %s is not between 0 and 24h", o.r.Last).WithRemedy("write it like 10m")
	}
	if o.r.TTL <= 0 || o.r.TTL > fault.MaxTTL {
		return services.Errorf(services.Invalid, "--ttl: %s is not between 0 and %s", o.r.TTL, fault.MaxTTL).WithRemedy("write it like 20s")
	}
	if o.hours == "" {
		return nil
	}
	from, to, ok := strings.Cut(o.hours, "-")
	for _, x := range []struct {
		text string
		into *time.Duration
	}{{from, &o.r.From}, {to, &o.r.To}} {
		t, err := time.Parse("15:04", x.text)
		if !ok || err != nil {
			return services.Errorf(services.Invalid, "--hours: %q is no span of hours", o.hours).WithRemedy("write it like 09:00-15:00")
		}
		*x.into = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	if o.r.From == o.r.To {
		return services.Errorf(services.Invalid, "--hours: %q begins when it ends", o.hours).WithRemedy("write it like 09:00-15:00, or leave it out for all day")
	}
	return nil
}

func runMonkey(ctx context.Context, a *app, o monkeyOptions) error {
	s := a.env.out()
	if !o.out.machine() {
		o.r.Progress = func(k lab.MonkeyKill) {
			line := fmt.Sprintf("%s  %-8s %s", k.At.Local().Format(time.TimeOnly), k.Outcome, k.Instance)
			if k.Reason != "" {
				line += "  (" + k.Reason + ")"
			}
			s.Printf("%s\n", line)
		}
	}
	run, err := lab.Monkey(ctx, func(ctx context.Context) (*control.Client, error) {
		c, _, err := lab.Connect(ctx, a.env.lab(), a.name)
		return c, err
	}, o.r)
	if err != nil {
		return err
	}
	if o.out.machine() {
		err = o.out.print(a, run)
	} else {
		printMonkey(s, run, o.r.Last)
	}
	if n := run.Count("failed"); err == nil && n > 0 {
		err = services.Errorf(services.Unavailable, "%d of %s failed", n, services.Count(len(run.Kills), "kill")).WithRemedy("flix lab status says what the lab lacks")
	}
	return err
}

// printMonkey sums up.
func printMonkey(s render.Screen, run lab.MonkeyRun, last time.Duration) {
	if run.Leashed {
		s.Printf("%s\n", s.Dim(fmt.Sprintf("%s in %s, none of them done: it is on its leash (--unleash)", services.Count(len(run.Kills), "kill"), last)))
		return
	}
	s.Printf("%s\n", s.Dim(fmt.Sprintf("%d killed, %d spared, %d failed; what is killed returns by itself", run.Count("killed"), run.Count("spared"), run.Count("failed"))))
}
