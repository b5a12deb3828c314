package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newTitleCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "title", Short: "The catalogue: list, show, search, add"}
	c.AddCommand(newTitleListCmd(a, "ls", "List the catalogue", false), newTitleListCmd(a, "search QUERY", "Find titles by words, tolerant of typing errors", true), newTitleShowCmd(a), newTitleAddCmd(a))
	return c
}

func newTitleListCmd(a *app, use, short string, query bool) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			ts, err := client.Titles(cmd.Context(), strings.Join(args, " "))
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, ts)
			}
			if len(ts.Titles) == 0 {
				a.env.out().Printf("nothing found\n")
				return nil
			}
			return printTitles(a, ts.Titles)
		},
	}
	if query {
		c.Args = cobra.MinimumNArgs(1)
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func printTitles(a *app, ts []control.Title) error {
	s := a.env.out()
	var rows [][]string
	for _, t := range ts {
		var rungs []string
		for _, r := range t.Rungs {
			rungs = append(rungs, fmt.Sprintf("%dp", r.Height))
		}
		live := s.State("ready")
		switch {
		case t.Live:
		case t.Waiting != "":
			live = s.Warn(t.Waiting)
		default:
			live = s.Dim("not yet")
		}
		countries := "everywhere"
		if len(t.Countries) > 0 {
			countries = strings.Join(t.Countries, " ")
		}
		rows = append(rows, []string{t.ID, t.Name, fmt.Sprintf("%.0f s", t.DurationS), strings.Join(rungs, " "), countries, live})
	}
	return s.Table([]string{"id", "name", "length", "rungs", "licensed in", "live"}, rows)
}

func newTitleShowCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "show TITLE", Short: "Everything about one title", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			ts, err := client.Titles(cmd.Context(), "")
			if err != nil {
				return err
			}
			for _, t := range ts.Titles {
				if strings.EqualFold(t.ID, args[0]) || strings.EqualFold(t.Name, args[0]) {
					return printTitle(a, out, t)
				}
			}
			near, err := client.Titles(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var names []string
			for _, t := range near.Titles {
				names = append(names, t.Name)
			}
			e := services.Errorf(services.NotFound, "there is no title %q", args[0]).WithReason(services.ReasonNoTitle).WithRemedy("list them: flix title ls")
			if len(names) > 0 {
				e = e.WithRemedy("did you mean %s?", strings.Join(names[:min(3, len(names))], ", "))
			}
			return unpublished(cmd.Context(), client.Jobs, args[0], e)
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func printTitle(a *app, out output, t control.Title) error {
	if out.machine() {
		return out.print(a, t)
	}
	s := a.env.out()
	s.Printf("%s  %s\n", s.Bold(t.Name), s.Dim(t.ID))
	if t.Poster != "" {
		s.Printf("\n%s\n\n", render.Indent(t.Poster, 2))
	}
	s.Printf("%s\n", t.Synopsis)
	return printTitles(a, []control.Title{t})
}
