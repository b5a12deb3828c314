package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// fillLook is how often a run that is followed is looked at.
const fillLook = 200 * time.Millisecond

type fillRunOptions struct {
	req   control.FillRunRequest
	watch bool
	out   output
}

// filler is what a run needs of the lab.
type filler interface {
	FillRun(ctx context.Context, r control.FillRunRequest) (control.FillRunResult, error)
	FillStatus(ctx context.Context) (control.FillStatus, error)
}

func newFillRunCmd(a *app) *cobra.Command {
	var o fillRunOptions
	run := &cobra.Command{
		Use: "run", Short: "Compare disks with plans and fill what is missing", Args: cobra.NoArgs,
		Long: `Asks every appliance to compare its disk with what it is assigned, and fills
what is missing. With --watch it follows the fill to its end and shows the ETA
beside the lower bound computed from the lines' speed; Ctrl-C leaves the fill
going on.

JSON: appliances, orders; followed to the end also filled_bytes, ms, bound_ms,
bound_by and ratio (ms ÷ bound_ms).`,
		Example: "  flix fill run --now --watch\n  flix fill run --title harbor-lights --scope us-east",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			if o.req.Scope != "" && o.req.Title == "" {
				return services.Errorf(services.Invalid, "--scope: it is of --title, which is missing").WithRemedy("name the title that is urgent, e.g. --title harbor-lights")
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), a, client)
		},
	}
	run.Flags().BoolVar(&o.req.Now, "now", false, "fill at once, outside the window too")
	run.Flags().BoolVar(&o.req.Deep, "deep", false, "read every stored byte again and check it")
	run.Flags().StringVar(&o.req.Title, "title", "", "title that is urgent: it goes first, outside the window too")
	run.Flags().StringVar(&o.req.Scope, "scope", "", "where --title is urgent: an appliance, site or region (default the lab)")
	run.Flags().BoolVarP(&o.watch, "watch", "w", false, "follow the fill to its end")
	o.out.flag(run, "text", "json", "yaml")
	return run
}

func (o *fillRunOptions) run(ctx context.Context, a *app, f filler) error {
	res, err := f.FillRun(ctx, o.req)
	if err != nil {
		return err
	}
	if o.watch {
		if err := o.follow(ctx, a, f, &res); err != nil {
			return err
		}
	}
	if o.out.machine() {
		return o.out.print(a, res)
	}
	s := a.env.out()
	if !o.watch {
		s.Printf("%d appliances compare their disks with their plans; flix fill status shows what comes of it\n", res.Appliances)
		if st, err := f.FillStatus(ctx); err == nil { // what was asked for is under way without it
			if why := stuck(st, o.req.Title != ""); why != "" {
				s.Printf("%s nothing comes as things are: %s; flix fill plan says more\n", s.Warn("!"), why)
			}
		}
		return nil
	}
	s.Printf("everything is filled: %s in %s, lower bound %s", render.Bytes(res.FilledBytes), render.MS(res.MS), render.MS(float64(res.BoundMS)))
	if res.Ratio > 0 {
		s.Printf(" (%.2f times that)", res.Ratio)
	}
	s.Printf("\n")
	return nil
}

// follow looks until nothing is missing. Errors: Unavailable when the rest does
// not come as things are, with the reason of the first appliance.
func (o *fillRunOptions) follow(ctx context.Context, a *app, f filler, res *control.FillRunResult) error {
	view := render.NewSteps(a.env.errOut())
	defer view.Close()
	s := a.env.errOut()
	start, settled := time.Now(), 0
	var first, most uint64
	for {
		st, err := f.FillStatus(ctx)
		if err != nil {
			return err
		}
		total := filledBytes(st)
		if most == 0 {
			first = total
		}
		if st.MissingBytes > most {
			most = st.MissingBytes
			res.BoundMS, res.BoundBy = max(res.BoundMS, st.BoundMS), st.BoundBy
		}
		res.FilledBytes, res.MS = total-min(total, first), float64(time.Since(start).Milliseconds())
		if st.MissingBytes == 0 {
			settled++
		} else {
			settled = 0
		}
		if settled > 2 { // what a comparison finds missing is reported a moment later
			if res.BoundMS > 0 {
				res.Ratio = res.MS / float64(res.BoundMS)
			}
			return nil
		}
		if why := stuck(st, false); why != "" {
			return services.Errorf(services.Unavailable, "the rest does not come as things are: %s", why).WithReason("fill_blocked").WithRemedy("flix fill plan says what is missing and why")
		}
		done := 100.0
		if most > 0 {
			done = 100 * (1 - float64(st.MissingBytes)/float64(most))
		}
		view.Live("%s %3.0f %%  missing %s", render.Bar(done, 20), done, timeText(s, st.FillTime))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(fillLook):
		}
	}
}

func filledBytes(st control.FillStatus) (total uint64) {
	for _, x := range st.Appliances {
		total += x.CacheFillBytes + x.TierFillBytes + x.PeerFillBytes
	}
	return total
}

// stuck says why nothing of what is missing can come; "" if some can. urgent: the
// fill windows do not matter.
func stuck(st control.FillStatus, urgent bool) (why string) {
	for _, x := range st.Appliances {
		switch {
		case x.MissingBytes == 0:
		case x.Blocked == "", urgent && x.OutsideWindow():
			return ""
		case why == "":
			why = x.Name + ": " + x.Blocked
		}
	}
	return why
}
