package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/evacuate"
	"github.com/flix-lab/flix/services"
)

type moveOptions struct {
	verb   string
	dryRun bool
	yes    bool
	pace   string
	check  bool
	out    output
}

func newFailoverCmd(a *app) *cobra.Command {
	c := newMoveCmd(a, "failover", "Evacuate a region: its traffic moves to the others")
	c.Long = `Evacuates a region: plan with a capacity check, more instances in the saving
regions, gateways that proxy in growing shares, DNS, drain, verify. Canary plays
run all the while; when one fails the traffic moves back and the command fails.
A region near which plays fail already is evacuated at once instead. Appliances
keep serving: the video does not move.

From the start DNS answers that lead to the region are kept for a quarter of
their time to live (timing.dns_ttl), and its gateways keep no connections, so
that viewers follow DNS at once when it moves.

Ctrl-C moves everything back. A command that is killed takes nothing with it:
the evacuation goes on, and the same command goes along with it to its end.
After a crash of the daemon the same command takes it up where it was; flix
failback REGION undoes it instead.`
	var out output
	status := &cobra.Command{
		Use: "status", Short: "Evacuations so far, and the one that runs", Args: cobra.NoArgs,
		RunE: show(a, &out, func(ctx context.Context, c *control.Client) (evacuations, error) {
			moves, err := c.FailoverStatus(ctx)
			return evacuations{moves}, err
		}, func(e evacuations) error {
			s := a.env.out()
			if len(e.Evacuations) == 0 {
				s.Printf("no region was evacuated yet\n")
				return nil
			}
			var rows [][]string
			for _, m := range e.Evacuations {
				started := "-"
				if !m.Started.IsZero() {
					started = m.Started.Local().Format("15:04:05")
				}
				rto := "-" // nothing was measured: it was cut short, or is a failback
				if m.RTOMS > 0 {
					rto = render.MS(m.RTOMS)
				}
				rows = append(rows, []string{m.ID, m.Verb, m.Region, s.State(m.State), started, rto, fmt.Sprintf("%d/%d", m.PlaysFailed, m.PlaysDuring)})
			}
			return s.Table([]string{"id", "verb", "region", "state", "started", "rto", "failed plays"}, rows)
		}),
	}
	out.flag(status, "table", "json", "yaml")
	c.AddCommand(status, newFailoverWatchCmd(a))
	return c
}

func newFailbackCmd(a *app) *cobra.Command {
	c := newMoveCmd(a, "failback", "Return traffic to an evacuated region")
	c.Long = `Returns traffic to an evacuated region: data caught up and caches warmed, then
its own events, DNS, the SQL primary, and its requests in falling shares, each
looked at before the next. A play that fails near it, too many errors there,
answers that take too long, or Ctrl-C move everything to the savers again: the
region stays evacuated, and the command fails.

A command that is killed takes nothing with it: the same command goes along with
it to its end. After a crash of the daemon the same command takes it up where it
was; flix failover REGION undoes it instead. After a failover that was cut short
it moves back what had been moved.`
	return c
}

func newMoveCmd(a *app, verb, short string) *cobra.Command {
	o := moveOptions{verb: verb}
	c := &cobra.Command{
		Use: verb + " REGION", Short: short, Args: cobra.ExactArgs(1), Example: "  flix " + verb + " us-east",
		Annotations: map[string]string{whenInterrupted: "run the same command again: it begins anew, or goes on with what is half-moved"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			return runMove(cmd.Context(), a, o, args[0])
		},
	}
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the plan and the capacity check, change nothing")
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask on a terminal")
	c.Flags().StringVar(&o.pace, "pace", evacuate.Fast, "fast, or safe: more and smaller shares, each looked at for longer")
	c.Flags().BoolVar(&o.check, "check", true, "write meanwhile, and look afterwards whether anything is lost")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func runMove(ctx context.Context, a *app, o moveOptions, region string) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	if err := evacuate.CheckPace(o.pace); err != nil {
		return err
	}
	req := control.FailoverRequest{Region: region, DryRun: o.dryRun, Pace: o.pace, Unchecked: !o.check}
	do := client.Failover
	if o.verb == "failback" {
		do = client.Failback
	}
	msg := a.env.errOut()
	if !o.dryRun && a.asks(o.yes) {
		plan, err := do(ctx, control.FailoverRequest{Region: region, DryRun: true}, nil)
		if err != nil {
			return err
		}
		msg.Printf("%s\n", planText(plan))
		if err := a.confirm(ctx, o.verb+" "+region+"?"); err != nil {
			return err
		}
	}
	view := newMoveView(msg, o.verb)
	rep, err := do(ctx, req, view.heard)
	view.close()
	if ctx.Err() != nil && !o.dryRun {
		undone, uerr := undoMove(ctx, msg, client, req, o.verb)
		if err = errors.Join(err, uerr); undone.Region != "" {
			rep = undone
		}
	}
	if o.out.machine() && rep.Region != "" {
		if perr := o.out.print(a, rep); perr != nil {
			return perr
		}
		return err
	}
	if err != nil {
		return err
	}
	printMove(a, rep)
	return nil
}

// undoTime bounds the wait for a move that was interrupted to be undone; it goes
// on without us after that.
const undoTime = 30 * time.Second

// undoMove has the daemon undo what an interrupted command asked for: a move goes
// on when its command is merely gone.
func undoMove(ctx context.Context, msg render.Screen, client *control.Client, req control.FailoverRequest, verb string) (control.Failover, error) {
	msg.Printf("interrupted: the %s of %s is being undone\n", verb, req.Region)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	rep, err := client.CancelMove(ctx, control.FailoverRequest{Region: req.Region})
	if services.KindOf(err) == services.NotFound {
		return rep, nil // it was over, or had not begun
	}
	if err != nil {
		return rep, err
	}
	msg.Printf("%s\n", undoneText(rep))
	return rep, nil
}

// undoneText says how an interrupted move ended.
func undoneText(r control.Failover) string {
	switch r.State {
	case evacuate.RolledBack, evacuate.Refused:
		if r.Verb == evacuate.Return {
			return r.Region + " stays evacuated: the savers serve its clients as before"
		}
		return r.Region + " serves its clients as before"
	case evacuate.Failed:
		return fmt.Sprintf("%s is half-moved: finish with flix %s %s", r.Region, r.Verb, r.Region)
	}
	return fmt.Sprintf("too late: the %s of %s is %s", r.Verb, r.Region, r.State)
}

func planText(r control.Failover) string {
	var savers []string
	for _, s := range r.Savers {
		savers = append(savers, fmt.Sprintf("%s (%.0f %%)", s.Region, s.Share*100))
	}
	if len(savers) == 0 {
		return fmt.Sprintf("%s of %s", r.Verb, r.Region)
	}
	text := fmt.Sprintf("%s of %s: savers %s; they serve %.1f requests/s, it brings %.1f, by their limits they answer up to %.0f",
		r.Verb, r.Region, strings.Join(savers, ", "), r.Capacity.Used, r.Capacity.Demand, r.Capacity.Limit)
	for _, s := range r.Capacity.Services {
		text += fmt.Sprintf("\n  %-10s %.1f/s and %.1f/s", s.Role, s.Used, s.Demand)
		if s.AtOnce > 0 {
			text += fmt.Sprintf("; an instance %.0f at once of %s, so %.0f/s", s.AtOnce, render.MS(s.MeanMS), s.PerInstance)
		}
		text += fmt.Sprintf("; %d there, %d more", s.Have, s.Add)
		if s.Default != "" {
			text += " (" + s.Default + ")"
		}
	}
	if len(r.Capacity.Services) > 0 {
		text += "\nlimits know nothing of processors: the regions share this machine's, and the sum of their work stays"
	}
	return text
}

func printMove(a *app, r control.Failover) {
	s := a.env.out()
	if r.DryRun {
		s.Printf("%s\nnothing was changed\n", planText(r))
		return
	}
	if r.Verb == "failback" {
		s.Printf("%s serves its own clients again; %d plays during it, %d failed\n", s.Bold(r.Region), r.PlaysDuring, r.PlaysFailed)
		return
	}
	if r.RTOMS == 0 {
		s.Printf("%s is evacuated: it answered no client since the start; %d plays during it, %d failed\n%s\n",
			s.Bold(r.Region), r.PlaysDuring, r.PlaysFailed, s.Dim("return its traffic with: flix failback "+r.Region))
		return
	}
	s.Printf("%s is empty: the last client request was answered there after %s (RTO)\n", s.Bold(r.Region), s.Bold(render.MS(r.RTOMS)))
	s.Printf("plays during it %d, failed %d; client requests in it afterwards %d\n", r.PlaysDuring, r.PlaysFailed, r.RequestsInRegionAfter)
	s.Printf("%s\n", s.Dim("return its traffic with: flix failback "+r.Region))
}
