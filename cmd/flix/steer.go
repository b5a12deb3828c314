package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newSteerCmd(a *app) *cobra.Command {
	c := &cobra.Command{Use: "steer", Short: "Which appliances a client is sent to, and why"}
	c.AddCommand(newSteerExplainCmd(a), newSteerWhatIfCmd(a), newSteerMissesCmd(a), newSteerRoutesCmd(a), newSteerSessionsCmd(a))
	return c
}

func newSteerExplainCmd(a *app) *cobra.Command {
	var (
		r   control.SteerRequest
		out output
	)
	c := &cobra.Command{
		Use: "explain --ip ADDRESS --title TITLE", Short: "Who was considered for a client, who was struck out and why", Args: cobra.NoArgs,
		Long: `Makes one steering decision, as the play API would, and prints the answer, best
first, and what each filter said of every appliance: prefix (how the client
reaches it), healthy, fresh (its last report), content (all files of the title),
exclude.`,
		Example: "  flix steer explain --ip 198.18.0.7 --title harbor-lights\n  flix steer explain --ip 2001:db8::7 --title harbor-lights -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if r.IP == "" || r.Title == "" {
				return services.Errorf(services.Invalid, "--ip and --title are needed").WithRemedy("e.g. flix steer explain --ip 198.18.0.7 --title harbor-lights")
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			e, err := client.Explain(cmd.Context(), r)
			if err != nil {
				return unpublished(cmd.Context(), client.Jobs, r.Title, err)
			}
			if out.machine() {
				return out.print(a, e)
			}
			return printExplained(a, e)
		},
	}
	c.Flags().StringVar(&r.IP, "ip", "", "address of the client")
	c.Flags().StringVar(&r.Title, "title", "", "name or id of the title")
	c.Flags().StringVar(&r.Region, "region", "", "region whose steering decides (default the first that answers)")
	out.flag(c, "table", "json", "yaml")
	return c
}

func printExplained(a *app, e control.Explained) error {
	s := a.env.out()
	var rows [][]string
	for _, c := range e.Candidates {
		rows = append(rows, []string{fmt.Sprint(c.Rank), c.Appliance, c.Site, c.Kind, c.Region})
	}
	if len(rows) > 0 {
		if err := s.Table([]string{"rank", "appliance", "site", "kind", "region"}, rows); err != nil {
			return err
		}
	} else {
		s.Printf("%s\n", s.Bad(e.Error))
	}
	rows = nil
	at := map[string]int{}
	for _, d := range e.Decisions {
		i, ok := at[d.Appliance]
		if !ok {
			i = len(rows)
			at[d.Appliance] = i
			rows = append(rows, []string{d.Appliance, s.Good("kept"), "", ""})
		}
		switch {
		case d.Struck:
			rows[i][1], rows[i][3] = s.Bad("struck"), d.Filter+": "+d.Why
			if d.Filter == "prefix" {
				rows[i][2], rows[i][3] = d.Why, ""
			}
		case d.Filter == "prefix":
			rows[i][2] = d.Why
		}
	}
	s.Printf("\n")
	return s.Table([]string{"appliance", "verdict", "reached", "why struck"}, rows)
}

func newSteerWhatIfCmd(a *app) *cobra.Command {
	var (
		r   control.SteerRequest
		out output
	)
	c := &cobra.Command{
		Use: "whatif --lose SITE", Short: "Where the latest clients would go without a site", Args: cobra.NoArgs,
		Long: `Makes the latest decisions of a region again, as things are and without some
sites, and compares who is named first: how many move, how many of them farther
away, and which sites would take them.`,
		Example: "  flix steer whatif --lose us-east-isp-1\n  flix steer whatif --lose us-east-ix --lose us-west-ix --region us-east -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if len(r.Lose) == 0 || slices.Contains(r.Lose, "") {
				return services.Errorf(services.Invalid, "--lose: no site was named").WithRemedy("name one, e.g. --lose us-east-isp-1; flix lab topology show lists them")
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			w, err := client.WhatIf(cmd.Context(), r)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, w)
			}
			return printWhatIf(a, w)
		},
	}
	c.Flags().StringArrayVar(&r.Lose, "lose", nil, "site that is lost (repeatable)")
	c.Flags().StringVar(&r.Region, "region", "", "region whose clients are looked at (default the first that answers)")
	out.flag(c, "table", "json", "yaml")
	return c
}

func printWhatIf(a *app, w control.WhatIf) error {
	s := a.env.out()
	s.Printf("of the latest %d decisions %d would name another appliance first, %d a farther kind of site, %d nobody\n", w.Sampled, w.Moved, w.Farther, w.Unserved)
	pct := func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }
	var rows [][]string
	for _, kind := range []string{"isp", "exchange", "transit", "none"} {
		if w.Before[kind] > 0 || w.After[kind] > 0 {
			rows = append(rows, []string{kind, pct(w.Before[kind]), pct(w.After[kind])})
		}
	}
	for _, x := range w.Sites {
		rows = append(rows, []string{"  " + x.Site, pct(x.Before), pct(x.After)})
	}
	return s.Table([]string{"first choice", "before", "after"}, rows)
}
