package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/record"
	"github.com/flix-lab/flix/services"
)

type reportOptions struct {
	compare string
	out     output
}

func newReportCmd(a *app) *cobra.Command {
	o := reportOptions{}
	c := &cobra.Command{
		Use: "report [ID]", Short: "What evacuations, loads and experiments were like", Args: cobra.MaximumNArgs(1),
		Long: `Shows what an evacuation, a return, a load, an experiment or the loss of a
region left in the lab's state: its timeline and its figures, beside those of an
earlier one with --compare. Without an id it shows the newest; the first
characters of an id are enough. -o html makes one page with a picture that needs
nothing else.`,
		Example: "  flix report ls\n  flix report\n  flix report 3f2a --compare 91bc -o md\n  flix report -o html > report.html",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			return runReport(a, o, id)
		},
	}
	c.Flags().StringVar(&o.compare, "compare", "", "id of an earlier record to compare with")
	o.out.flag(c, "table", "json", "yaml", "html", "md")
	var ls output
	list := &cobra.Command{
		Use: "ls", Short: "What was recorded, the oldest first", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := ls.check(); err != nil {
				return err
			}
			return runReportList(a, ls)
		},
	}
	ls.flag(list, "table", "json", "yaml")
	c.AddCommand(list)
	return c
}

// again says how to look again at a record that was kept, if it could be.
func (a *app) again(id string, err error) error {
	if err == nil {
		msg := a.env.errOut()
		msg.Printf("%s\n", msg.Dim("look at it again: flix report "+id))
	}
	return err
}

// records of the lab that is meant.
func records(a *app) (record.Store, error) {
	p, err := lab.PathsOf(a.env.lab(), a.name)
	if err != nil {
		return record.Store{}, err
	}
	if !p.Exists() {
		return record.Store{}, services.Errorf(services.NotFound, "there is no lab %q", a.name).WithReason(services.ReasonNoLab).WithRemedy("flix lab ls lists them")
	}
	return lab.Records(p), nil
}

func runReportList(a *app, out output) error {
	s, err := records(a)
	if err != nil {
		return err
	}
	all, err := s.List()
	if err != nil {
		a.env.errOut().Printf("%s %v\n", a.env.errOut().Warn("!"), err) // the others can be read
	}
	if out.machine() {
		list := []map[string]any{}
		for _, r := range all {
			list = append(list, map[string]any{"id": r.ID, "kind": r.Kind, "subject": r.Subject, "state": r.State, "started": r.Started, "ended": r.Ended, "summary": r.Summary})
		}
		return out.print(a, map[string]any{"reports": list})
	}
	scr := a.env.out()
	if len(all) == 0 {
		scr.Printf("nothing was recorded yet\n")
		return nil
	}
	var rows [][]string
	for _, r := range all {
		rows = append(rows, []string{r.ID, r.Kind, r.Subject, recordState(scr, r), r.Started.Local().Format("01-02 15:04:05"), record.Value(r.Seconds(), "s"), r.Summary})
	}
	return scr.Table([]string{"id", "kind", "of", "state", "started", "took", "summary"}, rows)
}

func recordState(s render.Screen, r record.Record) string {
	switch r.State {
	case "holds", "done":
		return s.Good("● " + r.State)
	}
	return s.Bad("○ " + r.State)
}

func runReport(a *app, o reportOptions, id string) error {
	s, err := records(a)
	if err != nil {
		return err
	}
	r, err := s.Get(id)
	if err != nil {
		return err
	}
	var before *record.Record
	if o.compare != "" {
		b, err := s.Get(o.compare)
		if err != nil {
			return services.Wrap("--compare", err)
		}
		before = &b
	}
	switch o.out.format {
	case "html":
		return record.HTML(a.env.Out, r, before)
	case "md":
		return record.Markdown(a.env.Out, r, before)
	case "json", "yaml":
		return o.out.print(a, reportJSON(r, before))
	}
	return printReport(a.env.out(), r, before)
}

// reportJSON is a record, with what changed beside it.
func reportJSON(r record.Record, before *record.Record) any {
	if before == nil {
		return r
	}
	return struct {
		record.Record
		ComparedWith string          `json:"compared_with"`
		Changes      []record.Change `json:"changes"`
	}{r, before.ID, record.Compare(r, *before)}
}

func printReport(s render.Screen, r record.Record, before *record.Record) error {
	of := ""
	if r.Subject != "" {
		of = " of " + r.Subject
	}
	s.Printf("%s%s %s  %s\n%s\n\n", s.Bold(r.Kind), of, recordState(s, r), s.Dim(r.ID+" · "+r.Started.Local().Format("2006-01-02 15:04:05")+" · "+record.Value(r.Seconds(), "s")), r.Summary)
	s.Printf("%s\n", record.Timeline(r, 50))
	header := []string{"figure", "value"}
	changes := map[string]record.Change{}
	if before != nil {
		header = append(header, "before", "")
		for _, c := range record.Compare(r, *before) {
			changes[c.Name] = c
		}
	}
	var rows [][]string
	for _, f := range r.Figures {
		row := []string{f.Name, record.Value(f.Value, f.Unit)}
		if before != nil {
			c, ok := changes[f.Name]
			was := "-"
			if ok {
				was = record.Value(c.Before, c.Unit)
			}
			row = append(row, was, verdict(s, c.Verdict))
		}
		rows = append(rows, row)
	}
	if err := s.Table(header, rows); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for _, n := range r.Notes {
		s.Printf("%s %s\n", s.Dim("·"), n)
	}
	return nil
}

func verdict(s render.Screen, v string) string {
	switch v {
	case "better":
		return s.Good(v)
	case "worse":
		return s.Bad(v)
	}
	return v
}
