package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

type filterOptions struct {
	region string
	out    output
}

func newFiltersCmd(a *app) *cobra.Command {
	return group("filters", "The filters that every request goes through", newFiltersLsCmd(a),
		newFilterSwitchCmd(a, "on", "Switch filters on", ""), newFilterSwitchCmd(a, "off", "Switch filters off: requests pass them by", "on"), newFilterSetCmd(a))
}

func (o *filterOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.region, "region", "", "only the gateways of this region")
	o.out.flag(c, "table", "json", "yaml")
}

func newFiltersLsCmd(a *app) *cobra.Command {
	var o filterOptions
	c := &cobra.Command{
		Use: "ls", Short: "List the filters in the order they run, with what they cost", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runFilters(cmd.Context(), a, o, func(ctx context.Context, c *control.Client) (control.Filters, error) { return c.Filters(ctx, o.region) })
		},
	}
	o.flags(c)
	return c
}

func newFilterSwitchCmd(a *app, verb, short, disable string) *cobra.Command {
	var o filterOptions
	c := &cobra.Command{
		Use: verb + " FILTER…", Short: short, Args: cobra.MinimumNArgs(1), Example: "  flix gateway filters " + verb + " compress",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runFilters(cmd.Context(), a, o, func(ctx context.Context, c *control.Client) (fs control.Filters, err error) {
				for _, name := range args {
					if fs, err = c.ChangeFilter(ctx, control.FilterChange{Filter: name, Region: o.region, Options: map[string]string{"disable": disable}}); err != nil {
						break
					}
				}
				return fs, err
			})
		},
		ValidArgsFunction: completeFilters(a),
	}
	o.flags(c)
	return c
}

func newFilterSetCmd(a *app) *cobra.Command {
	var o filterOptions
	c := &cobra.Command{
		Use: "set FILTER OPTION=VALUE…", Short: "Change options of a filter", Args: cobra.MinimumNArgs(2),
		Long: `Changes options of a filter; an empty value is the default again. Every filter
has concurrency, the requests that may be in it at once (0 is any number). The
others are listed by flix gateway filters ls -o json.`,
		Example: `  flix gateway filters set rate-limit client=50/s:100 member=20/s
  flix gateway filters set cors origins=https://www.example.org
  flix gateway filters set load-shed overload=80     # a drill
  flix gateway filters set compress concurrency=32 min-bytes=`,
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := pairs(args[1:], "=")
			if err != nil {
				return err
			}
			return runFilters(cmd.Context(), a, o, func(ctx context.Context, c *control.Client) (control.Filters, error) {
				return c.ChangeFilter(ctx, control.FilterChange{Filter: args[0], Region: o.region, Options: options})
			})
		},
		ValidArgsFunction: completeFilters(a),
	}
	o.flags(c)
	return c
}

func completeFilters(a *app) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		fs, err := client.Filters(cmd.Context(), "")
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, f := range fs.Filters {
			names = append(names, f.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func runFilters(ctx context.Context, a *app, o filterOptions, ask func(context.Context, *control.Client) (control.Filters, error)) error {
	if err := o.out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	fs, err := ask(ctx, client)
	if err != nil {
		return err
	}
	if o.out.machine() {
		return o.out.print(a, fs)
	}
	return printFilters(a.env.out(), fs)
}

func printFilters(s render.Screen, fs control.Filters) error {
	var rows [][]string
	for _, f := range fs.Filters {
		state := s.Good("on")
		switch {
		case f.EnabledOn == 0:
			state = s.Warn("off")
		case f.EnabledOn < f.Gateways:
			state = s.Warn(fmt.Sprintf("on at %d of %d", f.EnabledOn, f.Gateways))
		}
		limit := "-"
		if f.Concurrency > 0 {
			limit = fmt.Sprintf("%d/%d", f.InFlight, f.Concurrency)
		}
		var set []string
		for _, o := range f.Options {
			if o.Value != "" {
				set = append(set, o.Name+"="+o.Value)
			}
		}
		rows = append(rows, []string{f.Phase, f.Name, state, strconv.FormatUint(f.Runs, 10), strconv.FormatUint(f.Errors, 10), strconv.FormatUint(f.Rejected, 10),
			fmt.Sprintf("%.1f µs", f.MeanUS), limit, strings.Join(set, " ")})
	}
	if err := s.Table([]string{"phase", "filter", "state", "runs", "errors", "rejected", "mean", "at once", "set"}, rows); err != nil {
		return err
	}
	for _, g := range fs.Unreachable {
		s.Printf("%s\n", s.Warn(g+" does not answer; it takes what is set when it starts"))
	}
	return nil
}
