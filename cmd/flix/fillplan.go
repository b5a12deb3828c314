package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newFillPlanCmd(a *app) *cobra.Command {
	var (
		r   control.FillPlanRequest
		out output
	)
	c := &cobra.Command{
		Use: "plan [TITLE [SCOPE]]", Short: "What would move, from where, and how long it takes", Args: cobra.MaximumNArgs(2),
		Long: `Lists the files that appliances are assigned and do not hold, in the order of
fill: those under way, those that are ready, those that wait for somebody else,
and those that are blocked, and why. Beside the ETA stands the lower bound
computed from the lines' speed; no plan is faster.

Also shows how the titles lie at each site: the most popular are spread by the
appliances' bandwidth, the others by their storage, with the cut-off between
them.

SCOPE is an appliance, a site or a region; the end of an appliance's name will
do.

JSON: appliances[], moves[], left_off, sites[], and missing_bytes, origin_bytes,
rate_bps, eta_ms (-1: part of it does not come as things are), bound_ms,
bound_by.`,
		Example: "  flix fill plan\n  flix fill plan harbor-lights us-east-isp-1\n  flix fill plan --scope us-east -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if r.Limit < 0 {
				return services.Errorf(services.Invalid, "--limit: %d moves cannot be listed", r.Limit).WithRemedy("give a number from 1 on, or leave it out for 1000")
			}
			if len(args) > 0 {
				r.Title = args[0]
			}
			if len(args) > 1 {
				if r.Scope != "" {
					return services.Errorf(services.Invalid, "--scope: the scope was given twice, %q and %q", r.Scope, args[1])
				}
				r.Scope = args[1]
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			p, err := client.FillPlan(cmd.Context(), r)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, p)
			}
			return printFillPlan(a, p)
		},
	}
	c.Flags().StringVar(&r.Scope, "scope", "", "an appliance, site or region (default the lab)")
	c.Flags().IntVar(&r.Limit, "limit", 0, "moves to list at most (default 1000)")
	out.flag(c, "table", "json", "yaml")
	return c
}

func printFillPlan(a *app, p control.FillPlan) error {
	s := a.env.out()
	var rows [][]string
	for _, m := range p.Moves {
		state := s.State(m.State)
		if m.State == "blocked" {
			state = s.Bad(m.State)
		}
		rows = append(rows, []string{m.Appliance, m.Title + "/" + m.Path, render.Bytes(m.Bytes), state, m.Source, m.From, m.Why})
	}
	if len(rows) > 0 {
		if err := s.Table([]string{"appliance", "file", "size", "state", "fill", "from", "why"}, rows); err != nil {
			return err
		}
		if p.LeftOff > 0 {
			s.Printf("and %d more; --limit lists more, --scope and TITLE fewer\n", p.LeftOff)
		}
		s.Printf("missing %s\n\n", timeText(s, p.FillTime))
	} else {
		s.Printf("%s\n\n", s.Good("nothing is missing"))
	}
	return printPlacements(s, p.Sites)
}

func printPlacements(s render.Screen, sites []control.SitePlacement) error {
	var rows [][]string
	for _, x := range sites {
		cut := fmt.Sprintf("%d of %d titles, popularity %.4g and more", x.Popular, x.Titles+x.Unplaced, x.CutOff)
		if x.Popular == x.Titles && x.Unplaced == 0 {
			cut = "none: there is room for all"
		}
		rows = append(rows, []string{x.Site, fmt.Sprint(x.Appliances), fmt.Sprintf("%d/%d", x.Titles, x.Titles+x.Unplaced), cut,
			render.Bytes(x.StoredBytes) + " of " + render.Bytes(x.CapacityBytes), fmt.Sprintf("%.2f", x.Imbalance)})
	}
	return s.Table([]string{"site", "appliances", "titles placed", "cut-off", "stored", "busiest ÷ fair share"}, rows)
}

func newFillExplainCmd(a *app) *cobra.Command {
	var (
		r   control.FillExplainRequest
		out output
	)
	c := &cobra.Command{
		Use: "explain TITLE APPLIANCE", Short: "Why a title is or is not on an appliance, and where from", Args: cobra.ExactArgs(2),
		Long: `Says what speaks for and against the title being there: its popularity and rank,
the cut-off, capacity, placement, pins, the fill window, pauses, liveness, the
appliance; and for each file where it came from or would come from.

JSON: state (held, filling, waiting, blocked, not_assigned), why, checks[]
{check, ok, text}, files[] {path, bytes, state, source, from, why}, placement,
planner, own.`,
		Example: "  flix fill explain harbor-lights us-east-isp-1/oca/1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			r.Title, r.Appliance = args[0], args[1]
			e, err := client.FillExplain(cmd.Context(), r)
			if err != nil {
				return unpublished(cmd.Context(), client.Jobs, r.Title, err)
			}
			if out.machine() {
				return out.print(a, e)
			}
			return printFillExplained(a, e)
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func printFillExplained(a *app, e control.FillExplained) error {
	s := a.env.out()
	s.Printf("%s, version %d, on %s: %s, %s\n", s.Bold(e.Title), e.Version, e.Appliance, s.State(e.State), e.Why)
	if !e.Own {
		s.Printf("%s\n", s.Warn("the appliance is connected to no cache control that answers: "+e.Planner+" tells what it knows of it"))
	}
	s.Printf("\n")
	var rows [][]string
	for _, c := range e.Checks {
		mark := s.Good("✓")
		if !c.OK {
			mark = s.Dim("–")
		}
		rows = append(rows, []string{mark, c.Check, c.Text})
	}
	if err := s.Table([]string{"", "check", "finding"}, rows); err != nil {
		return err
	}
	s.Printf("\n")
	rows = nil
	for _, f := range e.Files {
		rows = append(rows, []string{f.Path, render.Bytes(f.Bytes), f.State, f.Source, f.From, f.Why})
	}
	return s.Table([]string{"file", "size", "state", "fill", "from", "why"}, rows)
}
