package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

func newEventsCmd(a *app) *cobra.Command {
	var (
		follow bool
		out    output
	)
	c := &cobra.Command{
		Use: "events", Short: "What happened in the lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			p, err := lab.PathsOf(a.env.lab(), a.name)
			if err != nil {
				return err
			}
			show := func(e control.Event) error { return printEvent(a, out, e) }
			err = control.NewClient(p.Socket()).Events(cmd.Context(), 0, follow, show)
			switch {
			case errors.Is(err, control.ErrNoDaemon):
				es, err := lab.PastEvents(p)
				if err != nil {
					return err
				}
				for _, e := range es {
					if err := show(e); err != nil {
						return err
					}
				}
				return nil
			case follow && cmd.Context().Err() != nil:
				return nil // the reader has seen enough
			}
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as they come")
	out.flag(c, "text", "json", "yaml")
	return c
}

func printEvent(a *app, out output, e control.Event) error {
	if out.machine() {
		return out.item(a, e)
	}
	s := a.env.out()
	s.Printf("%s %-18s %s\n", s.Dim(e.At.Local().Format(time.TimeOnly)), e.Kind, e.Text)
	return nil
}
