package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

type checkOptions struct {
	r    control.CheckRequest
	wait time.Duration
	out  output
}

func newCheckCmd(a *app) *cobra.Command {
	o := checkOptions{}
	c := &cobra.Command{
		Use: "check", Short: "Write, note what is acknowledged, and look what is left of it", Args: cobra.NoArgs,
		Long: `Writes into the lab as a client of a region: to a local and a global namespace
of the wide-column store, and to the billing ledger in SQL. Every acknowledged
write goes to a log of the checker's own before it counts. At the end all of
them are read back from every region that answers; some are followed into the
other regions all the while, which gives the staleness of reads there.

Run it beside what shall be judged: flix failover, a kill, flix lab wan cut. A
write that is refused is not lost. The loss of a region may cost local writes of
the last moments (the replication lag); the command ends with code 33 only when
a global or an SQL write is lost.`,
		Example: "  flix lab check --region us-east --seconds 20\n  flix lab check --rate 100 --log writes.jsonl -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			return runCheck(cmd.Context(), a, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.r.Region, "region", "", "region of the client that writes; the first of the lab when left out")
	f.Float64Var(&o.r.Seconds, "seconds", 10, "how long it writes")
	f.Float64Var(&o.r.Rate, "rate", 20, "writes of each kind per second")
	f.DurationVar(&o.wait, "wait", 10*time.Second, "longest wait for replication when it reads back")
	f.StringVar(&o.r.Log, "log", "", "new file for the acknowledged writes; in the lab's folder when left out")
	o.out.flag(c, "table", "json", "yaml")
	return c
}

func runCheck(ctx context.Context, a *app, o checkOptions) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	if o.r.Log != "" { // the daemon has another working directory
		if o.r.Log, err = filepath.Abs(o.r.Log); err != nil {
			return fmt.Errorf("--log: %w", err)
		}
	}
	o.r.WaitMS = float64(o.wait.Microseconds()) / 1000
	view := render.NewSteps(a.env.errOut())
	rep, err := client.Check(ctx, o.r, showSteps(view, "check"))
	view.Close()
	if rep.ID == "" { // it did not begin
		return err
	}
	if o.out.machine() {
		if perr := o.out.print(a, rep); perr != nil {
			return perr
		}
		return err
	}
	if perr := printCheck(a.env.out(), rep); perr != nil {
		return perr
	}
	return err
}

func printCheck(s render.Screen, r control.Check) error {
	s.Printf("%g s of writes as a client of %s\n", r.Seconds, s.Bold(r.Region))
	var rows [][]string
	for _, k := range r.Kinds {
		lost, age := strconv.Itoa(k.Lost), "-"
		if k.Lost > 0 {
			lost, age = s.Bad(lost), render.MS(k.LostNewestAgeMS)+" – "+render.MS(k.LostOldestAgeMS)
		}
		rows = append(rows, []string{k.Kind, strconv.Itoa(k.Attempted), strconv.Itoa(k.Acknowledged), strconv.Itoa(k.Refused), lost, age})
	}
	if err := s.Table([]string{"kind", "attempted", "acknowledged", "refused", "lost", "before the loss"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, x := range r.Staleness {
		rows = append(rows, []string{x.Region, x.Kind, strconv.Itoa(x.Samples), strconv.Itoa(x.Unseen), render.MS(x.P50MS), render.MS(x.P99MS), render.MS(x.MaxMS)})
	}
	if len(rows) > 0 {
		s.Printf("\n")
		if err := s.Table([]string{"read in", "kind", "samples", "unseen", "p50", "p99", "max"}, rows); err != nil {
			return err
		}
	}
	s.Printf("\n%s\n%s\n", s.Bold(r.Verdict), s.Dim("acknowledged writes: "+r.Log))
	return nil
}
