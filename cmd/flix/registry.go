package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newRegistryCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "registry", Short: "What the registries know, and why; set a status, evict",
		Long: `Looks into the registries of a running lab, from which every service learns whom
to call. An instance is named as flix lab status -o wide names it, or by the id
that a client of your own registered under.`,
		Example: `  flix registry ls --region us-east
  flix registry why us-east/a/play/1
  flix registry status us-east/a/play/1 OUT_OF_SERVICE
  flix registry status us-east/a/play/1 clear
  flix registry evict us-east/a/play/1`,
	}
	c.AddCommand(newRegistryLsCmd(a), newRegistryShowCmd(a), newRegistryStatusCmd(a), newRegistryEvictCmd(a), newRegistryWhyCmd(a), newRegistryPreserveCmd(a))
	return c
}

func newRegistryLsCmd(a *app) *cobra.Command {
	var (
		out    output
		region string
	)
	c := &cobra.Command{
		Use: "ls", Short: "The instances that the registries list, and how the registries do", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return asked(cmd, a, out, func(c *control.Client) (control.RegistryList, error) { return c.RegistryList(cmd.Context(), region) }, printRegistry)
		},
	}
	c.Flags().StringVar(&region, "region", "", "only this region's")
	out.flag(c, "table", "wide", "json", "yaml")
	return c
}

// asked asks the lab's daemon and prints what it answers.
func asked[T any](cmd *cobra.Command, a *app, out output, ask func(*control.Client) (T, error), show func(*app, output, T) error) error {
	if err := out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
	if err != nil {
		return err
	}
	v, err := ask(client)
	if err != nil {
		return err
	}
	if out.machine() {
		return out.print(a, v)
	}
	return show(a, out, v)
}

func printRegistry(a *app, out output, l control.RegistryList) error {
	s := a.env.out()
	header := []string{"instance", "status", "says", "vip", "address", "renewed"}
	if out.format == "wide" {
		header = append(header, "lease", "registry")
	}
	rows := make([][]string, 0, len(l.Instances))
	for _, i := range l.Instances {
		renewed := ago(i.SilentMS)
		if i.Expired {
			renewed += ", ran out"
		}
		says := i.Reported
		if i.Override != "" {
			says += ", overridden"
		}
		row := []string{i.ID, s.State(i.Status), says, i.VIP, i.Address, renewed}
		if out.format == "wide" {
			row = append(row, millis(i.DurationMS).String(), i.Registry)
		}
		rows = append(rows, row)
	}
	if err := s.Table(header, rows); err != nil {
		return err
	}
	for _, r := range l.Registries {
		if r.State != "running" {
			s.Printf("%s %s: %s\n", s.Bad("!"), r.Name, r.Error)
			continue
		}
		p := r.SelfPreservation
		mark := s.Dim("self-preservation of " + r.Name + ":")
		if p.Preserving {
			mark = s.Bad("self-preservation of " + r.Name + " keeps leases that ran out:")
		}
		s.Printf("%s %s\n", mark, p.Why)
		for _, app := range slices.Sorted(maps.Keys(p.Apps)) {
			s.Printf("  of %s it is %s, whatever else is set\n", app, p.Apps[app])
		}
		if out.format == "wide" {
			s.Printf("  %s\n", s.Dim(fmt.Sprintf("%d renewals in the last minute, %d expected, threshold %d", p.RenewsLastMinute, p.Expected, p.Threshold)))
		}
		for _, peer := range r.Peers {
			s.Printf("  peer %s  %s  %d sent, %d waiting, %d dropped  %s\n", peer.URL, peer.State, peer.Sent, peer.Queued, peer.Dropped, s.Dim(peer.Error))
		}
	}
	return nil
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func ago(silent int64) string {
	d := millis(silent)
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs ago", d.Seconds())
	}
	return d.Round(time.Second).String() + " ago"
}

func newRegistryShowCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "show INSTANCE", Short: "The whole record of an instance", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return asked(cmd, a, out, func(c *control.Client) (control.RegistryRecord, error) {
				return c.RegistryRecord(cmd.Context(), args[0])
			}, nil)
		},
	}
	out.flag(c, "yaml", "json")
	return c
}

func newRegistryWhyCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "why INSTANCE", Short: "Why an instance is or is not given work", Args: cobra.ExactArgs(1),
		Long: `Says why an instance is or is not UP: what it says of itself, what an operator
or a scaling group says, when it was last heard of, whether self-preservation
keeps it, and if it is not listed, how it left.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return asked(cmd, a, out, func(c *control.Client) (control.RegistryWhy, error) { return c.RegistryWhy(cmd.Context(), args[0]) }, printWhy)
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func printWhy(a *app, _ output, w control.RegistryWhy) error {
	s := a.env.out()
	status := s.State(w.Status)
	if !w.Listed {
		status = s.Bad("○ not listed")
	}
	s.Printf("%s %s\n", s.Bold(w.ID), status)
	for _, b := range w.Because {
		s.Printf("  %s\n", b)
	}
	if w.Remedy != "" {
		s.Printf("  %s %s\n", s.Dim("→"), w.Remedy)
	}
	return nil
}

// registryStatuses are what an operator may set.
func registryStatuses() []string {
	return []string{"UP", "OUT_OF_SERVICE", "DOWN", "STARTING", "clear"}
}

func newRegistryStatusCmd(a *app) *cobra.Command {
	var out output
	statuses := registryStatuses()
	c := &cobra.Command{
		Use: "status INSTANCE " + strings.Join(statuses, "|"), Short: "Set an instance's status, or clear what was set", Args: cobra.ExactArgs(2),
		Long: `Overrides what an instance says of itself: OUT_OF_SERVICE takes it out of the
work without touching it. The override stays through renewals and new
registrations, and every registry of the region hears of it, until it is
cleared. An instance that says DOWN or STARTING when it registers is believed
all the same.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.EqualFold(args[1], "evict") {
				return services.Errorf(services.Invalid, "%q is no status", args[1]).WithRemedy("use one of %s", strings.Join(statuses, ", "))
			}
			return asked(cmd, a, out, func(c *control.Client) (control.RegistryWhy, error) {
				return c.RegistryChange(cmd.Context(), control.RegistryChange{Instance: args[0], Status: args[1]})
			}, printWhy)
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func newRegistryEvictCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "evict INSTANCE", Short: "End an instance's lease now", Args: cobra.ExactArgs(1),
		Long: `Ends the lease of an instance, such as one that self-preservation keeps and that
is really gone. One that is alive registers again at its next renewal.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return asked(cmd, a, out, func(c *control.Client) (control.RegistryWhy, error) {
				return c.RegistryChange(cmd.Context(), control.RegistryChange{Instance: args[0], Status: "evict"})
			}, printWhy)
		},
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

func newRegistryPreserveCmd(a *app) *cobra.Command {
	var (
		out output
		r   control.RegistryPreserve
	)
	c := &cobra.Command{
		Use: "preserve on|off|auto", Short: "Set self-preservation, of all or of one application", Args: cobra.ExactArgs(1),
		Long: `Self-preservation keeps leases that ran out when more than 15 % did at once:
then the network is likelier to be at fault than the instances. auto applies it
from 100 leases on. With --app it is set for one application's leases only.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Mode = strings.ToLower(args[0])
			return asked(cmd, a, out, func(c *control.Client) (control.RegistryList, error) { return c.RegistryPreserve(cmd.Context(), r) }, func(a *app, _ output, l control.RegistryList) error {
				s := a.env.out()
				for _, reg := range l.Registries {
					s.Printf("%s  mode %s  %s\n", reg.Name, reg.SelfPreservation.Mode, s.Dim(reg.SelfPreservation.Why))
					for _, app := range slices.Sorted(maps.Keys(reg.SelfPreservation.Apps)) {
						s.Printf("  of %s it is %s\n", app, reg.SelfPreservation.Apps[app])
					}
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&r.App, "app", "", "only this application, e.g. play")
	c.Flags().StringVar(&r.Region, "region", "", "only this region")
	out.flag(c, "text", "json", "yaml")
	return c
}
