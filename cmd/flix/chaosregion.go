package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

type chaosRegionOptions struct {
	down, up bool
	yes      bool
	dryRun   bool
	r        lab.LossRequest
	out      output
}

// regionTTL is after how long a lost region comes back by itself.
const regionTTL = 10 * time.Minute

func newChaosRegionCmd(a *app) *cobra.Command {
	var o chaosRegionOptions
	c := &cobra.Command{
		Use: "region REGION --down", Short: "Lose a region without a warning, and tell what viewers felt", Args: cobra.ExactArgs(1),
		Annotations: map[string]string{whenInterrupted: "the region comes back at its time to live; sooner by: flix chaos region REGION --up"},
		Long: `Kills every process of a region at once (SIGKILL, or its containers), without a
word to the lab. Sessions are in flight near every region meanwhile, and
canaries play anew until they succeed from everywhere: how long that took, and
whether a session was lost, is the answer. The region comes back at its time to
live, by "flix chaos region REGION --up", or by "flix lab up".`,
		Example: "  flix chaos region us-east --down --yes -o json\n  flix chaos region us-east --up",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			if o.down == o.up {
				return services.Errorf(services.Invalid, "say --down or --up").WithRemedy("flix chaos region %s --down", args[0])
			}
			o.r.Region = args[0]
			if o.up {
				return regionUp(cmd.Context(), a, o)
			}
			return regionDown(cmd.Context(), a, o)
		},
	}
	fl := c.Flags()
	fl.BoolVar(&o.down, "down", false, "lose it")
	fl.BoolVar(&o.up, "up", false, "bring it back")
	fl.BoolVarP(&o.yes, "yes", "y", false, "do not ask on a terminal")
	fl.BoolVar(&o.dryRun, "dry-run", false, "show the blast radius, change nothing")
	fl.BoolVar(&o.r.Force, "force", false, "accept a broken quorum; the last region is never taken")
	fl.DurationVar(&o.r.TTL, "ttl", regionTTL, "when it comes back by itself")
	fl.IntVar(&o.r.Sessions, "sessions", 2, "sessions in flight near each region, 0 to 100")
	fl.DurationVar(&o.r.Patience, "timeout", time.Minute, "how long to wait for new plays to succeed")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func regionDown(ctx context.Context, a *app, o chaosRegionOptions) (failed error) {
	if o.r.Sessions < 0 || o.r.Sessions > 100 {
		return services.Errorf(services.Invalid, "--sessions: %d is not between 0 and 100", o.r.Sessions).WithRemedy("write it like --sessions 2")
	}
	client, paths, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	r := o.r.Fault()
	if o.dryRun {
		r.DryRun = true
		st, err := client.RunFault(ctx, r)
		if err != nil {
			return err
		}
		if o.out.machine() {
			return o.out.print(a, st)
		}
		printStarted(a, st)
		return nil
	}
	if err := confirmFault(ctx, a, client, r, o.yes); err != nil {
		return err
	}
	msg := a.env.errOut()
	res, err := lab.LoseRegion(ctx, client, o.r, func(text string) { msg.Printf("%s\n", text) })
	if !res.At.IsZero() && ctx.Err() == nil {
		id, kerr := lab.KeepLoss(paths, res)
		defer func() { failed = errors.Join(failed, a.again(id, kerr)) }()
	}
	if o.out.machine() && !res.At.IsZero() {
		if perr := o.out.print(a, res); perr != nil {
			return perr
		}
		return err
	}
	if err != nil {
		return err
	}
	s := a.env.out()
	s.Printf("%s is lost: new plays succeed from everywhere after %s (one DNS TTL and one health interval are %s)\n", s.Bold(res.Region), s.Bold(render.MS(res.RecoveredMS)), render.MS(res.BudgetMS))
	s.Printf("%d sessions were in flight, %d were lost, with %d rebuffers; %d new plays were tried, %d failed\n", res.SessionsInFlight, res.SessionsLost, res.Rebuffers, res.PlaysTried, res.PlaysFailed)
	for _, n := range res.Near {
		s.Printf("  near %-12s after %-8s answered by %s\n", n.Region, render.MS(n.RecoveredMS), n.AnsweredBy)
	}
	for _, e := range res.Errors {
		s.Printf("  %s %s\n", s.Warn("!"), e)
	}
	s.Printf("%s\n", s.Dim("it comes back at "+res.Until.Local().Format(time.TimeOnly)+"; sooner by: flix chaos region "+res.Region+" --up"))
	return nil
}

// regionUp lifts the faults that hold a region down.
func regionUp(ctx context.Context, a *app, o chaosRegionOptions) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	fs, err := client.Faults(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for _, f := range fs.Active {
		if slices.Contains(f.Effect.Lost, o.r.Region) {
			ids = append(ids, f.ID)
		}
	}
	if len(ids) == 0 {
		return services.Errorf(services.Conflict, "no fault holds %s down", o.r.Region).WithRemedy("flix lab status shows its state; flix lab up starts what does not run")
	}
	res, err := client.StopFaults(ctx, control.FaultStop{IDs: ids})
	if err != nil {
		return err
	}
	if o.out.machine() {
		return o.out.print(a, res)
	}
	printStopped(a, res)
	return nil
}
