package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newWANCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "wan", Short: "What lies between the regions; cut them apart", Args: cobra.NoArgs,
		Long: `Shows the round-trip times between the regions and the partitions in force. cut
makes a partition that ends by itself: connections between the two regions are
reset and new ones get no answer, for services and for the stores' replication.`,
		Example: "  flix lab wan\n  flix lab wan cut us-east eu-west --for 20s\n  flix lab wan heal",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runWAN(cmd, a, out, func(c *control.Client) (control.WAN, error) { return c.WAN(cmd.Context()) })
		},
	}
	out.flag(c, "text", "json", "yaml")
	c.AddCommand(newCutCmd(a), newHealCmd(a))
	return c
}

func newCutCmd(a *app) *cobra.Command {
	var (
		out  output
		last time.Duration
	)
	c := &cobra.Command{
		Use: "cut REGION REGION", Short: "Cut two regions apart for a while", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last <= 0 {
				return services.Errorf(services.Invalid, "--for: %s is no time", last).WithRemedy("write it like 30s")
			}
			r := control.CutRequest{Between: [2]string{args[0], args[1]}, ForMS: float64(last.Microseconds()) / 1000}
			return runWAN(cmd, a, out, func(c *control.Client) (control.WAN, error) { return c.Cut(cmd.Context(), r) })
		},
	}
	c.Flags().DurationVar(&last, "for", 30*time.Second, "how long the partition lasts, at most 1h")
	out.flag(c, "text", "json", "yaml")
	return c
}

func newHealCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "heal", Short: "Take every partition back", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runWAN(cmd, a, out, func(c *control.Client) (control.WAN, error) {
				return c.Cut(cmd.Context(), control.CutRequest{Heal: true})
			})
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func runWAN(cmd *cobra.Command, a *app, out output, ask func(*control.Client) (control.WAN, error)) error {
	if err := out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
	if err != nil {
		return err
	}
	w, err := ask(client)
	if err != nil {
		return err
	}
	if out.machine() {
		return out.print(a, w)
	}
	s := a.env.out()
	for _, l := range w.Links {
		state := s.Good("whole")
		if l.CutUntil != nil {
			state = s.Bad("cut for " + time.Until(*l.CutUntil).Round(time.Second).String())
		}
		s.Printf("%-14s %-14s  rtt %-8s  %s\n", l.Between[0], l.Between[1], render.MS(l.RTTMS), state)
	}
	if len(w.Links) == 0 {
		s.Printf("the lab has one region: nothing lies between\n")
	}
	s.Printf("%s\n", s.Dim("delayed and cut: "+strings.Join(w.Shaped, ", ")))
	for _, u := range w.Unshaped {
		s.Printf("%s %s\n", s.Bad("not emulated:"), u)
	}
	return nil
}
