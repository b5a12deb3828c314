package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newDiffCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "diff", Short: "Where the lab is not as it is wanted", Args: cobra.NoArgs,
		Long: `Compares what is wanted of the lab with what is there: instances that are
missing, were stopped, fail or have ended, those that nothing declares, and what
runs as it was declared before: appliances, and intervals (timing) of all; on
the containers runtime also containers that would be made otherwise now, the
network and the volumes. It changes nothing.

It ends with code 0 when both are equal, and with code 32 when they are not.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return runDiff(cmd.Context(), a, out)
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func runDiff(ctx context.Context, a *app, out output) error {
	p, err := lab.PathsOf(a.env.lab(), a.name)
	if err != nil {
		return err
	}
	d, err := control.NewClient(p.Socket()).Diff(ctx)
	if errors.Is(err, control.ErrNoDaemon) {
		d, err = lab.Diff(ctx, a.env.lab(), p)
	}
	if err != nil {
		return err
	}
	if err := printDiff(a, out, d); err != nil || d.Equal {
		return err
	}
	return services.Errorf(services.Conflict, "lab %s differs from what is wanted in %d points", d.Lab, len(d.Differences)).
		WithReason(lab.ReasonDiffers).WithRemedy("%s", d.Differences[0].Remedy)
}

func printDiff(a *app, out output, d control.Diff) error {
	if out.machine() {
		return out.print(a, d)
	}
	s := a.env.out()
	if d.Equal {
		s.Printf("lab %s is as it is wanted\n", s.Bold(d.Lab))
		return nil
	}
	var rows [][]string
	for _, x := range d.Differences {
		rows = append(rows, []string{s.State(x.Kind), x.Of, x.Name, x.Text})
	}
	return s.Table([]string{"difference", "of", "name", "what"}, rows)
}
