package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newSteerRoutesCmd(a *app) *cobra.Command {
	var (
		clear bool
		out   output
	)
	c := &cobra.Command{
		Use: "routes FILE | routes --clear", Short: "Load a table of routes, as BGP would bring it", Args: cobra.MaximumNArgs(1),
		Long: `Gives every steering a table of routes beside what the appliances announce. Each
line is

  PREFIX PLACE [AS_PATH [MED]]

with white space between: an IPv4 or IPv6 prefix, the site or appliance that
learned it, the number of networks on the way (0 to 255, default 0) and the
multi-exit discriminator (default 0). Empty lines, and what follows a #, are
skipped. Of routes of one length the shorter path wins, then the smaller
discriminator.

With bgp: true in the topology it is the sites' routers that announce the table,
over BGP; a site with a router that is not of the lab cannot be in it.

The lab keeps a copy; it lasts until --clear.`,
		Example: "  flix steer routes table.txt\n  flix steer routes --clear",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if clear == (len(args) == 1) {
				return services.Errorf(services.Invalid, "steer routes: name a FILE, or --clear, one of the two").WithRemedy("e.g. flix steer routes table.txt")
			}
			var r control.LoadRoutesRequest
			if !clear {
				file, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				r.File = file
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			loaded, err := client.LoadRoutes(cmd.Context(), r)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, loaded)
			}
			if clear {
				a.env.out().Printf("the table is taken away: steering goes by what the appliances announce\n")
				return nil
			}
			if loaded.Routes == 0 {
				a.env.out().Printf("the table holds no route: steering goes by what the appliances announce\n")
				return nil
			}
			a.env.out().Printf("%d routes of %s are loaded\n", loaded.Routes, strings.Join(loaded.Places, ", "))
			return nil
		},
	}
	c.Flags().BoolVar(&clear, "clear", false, "take the table away")
	out.flag(c, "text", "json", "yaml")
	return c
}

func newSteerMissesCmd(a *app) *cobra.Command {
	var (
		region string
		out    output
	)
	c := &cobra.Command{
		Use: "misses", Short: "Viewers not served by their nearest appliances, and why", Args: cobra.NoArgs,
		Long: `Sums what the steering instances counted since they started: decisions in which
no nearest appliance could serve, because those that had the title were not well
(H) or none had it (C), and those of clients in no announced prefix, served by
transit (T); by appliance, title and country. Bytes are the size of what was
asked for.

JSON: misses[] {cause, by, name, decisions, bytes}, decisions and bytes by
cause.`,
		Example: "  flix steer misses\n  flix steer misses --region us-east -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			m, err := client.SteerMisses(cmd.Context(), region)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, m)
			}
			return printMisses(a, m)
		},
	}
	c.Flags().StringVar(&region, "region", "", "one region only")
	out.flag(c, "table", "json", "yaml")
	return c
}

func printMisses(a *app, m control.Misses) error {
	s := a.env.out()
	if len(m.Misses) == 0 {
		s.Printf("%s\n", s.Good("every viewer was sent to a nearest appliance"))
		return nil
	}
	var rows [][]string
	for _, x := range m.Misses {
		rows = append(rows, []string{x.Cause, x.By, x.Name, fmt.Sprint(x.Decisions), render.Bytes(x.Bytes)})
	}
	if err := s.Table([]string{"cause", "by", "name", "decisions", "bytes"}, rows); err != nil {
		return err
	}
	for _, cause := range []string{"H", "C", "T"} {
		if n := m.Decisions[cause]; n > 0 {
			s.Printf("%s: %d decisions, %s\n", cause, n, render.Bytes(m.Bytes[cause]))
		}
	}
	return nil
}
