package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/topology"
)

// names lists what a word may be; a tab may part a name from what it means.
type names func(context.Context, *app) ([]string, error)

// flagNames are what the flags take that name something, whatever the command.
func flagNames() map[string]names {
	return map[string]names{
		"title": publishedNames, "region": regionNames, "isp": ispNames, "isps": ispNames, "instance": instanceNames,
		"name": labNames, "lab": labNames,
		"abr": fixed(abr.Names()...), "device": fixed("web", "phone", "tv"), "pace": fixed("fast", "safe"),
		"runtime": fixed("auto", lab.EmbeddedRuntime, lab.ContainersRuntime),
		"profile": fixed(string(topology.Small), string(topology.Standard), string(topology.Large)),
	}
}

// argumentNames are what the arguments of a command are, in their order.
func argumentNames() map[string][]names {
	return map[string][]names{
		"flix failover": {movable(false)}, "flix failback": {movable(true)}, "flix chaos region": {regionNames},
		"flix fill explain": {publishedNames, applianceNames}, "flix fill pin": {publishedNames, scopeNames},
		"flix fill unpin": {publishedNames, scopeNames}, "flix fill plan": {publishedNames, scopeNames},
		"flix fill pause": {scopeNames}, "flix fill resume": {scopeNames},
		"flix lab exec": {instanceNames}, "flix lab kill": {instanceNames}, "flix lab start": {instanceNames},
		"flix lab stop": {instanceNames}, "flix lab logs": {loggedNames}, "flix lab wan cut": {regionNames, regionNames},
		"flix registry evict": {instanceNames}, "flix registry show": {instanceNames}, "flix registry why": {instanceNames},
		"flix registry status": {instanceNames, fixed(registryStatuses()...)},
		"flix title show":      {titleNames},
	}
}

// offer lets the shell complete what flags and arguments name.
func offer(a *app, root *cobra.Command) {
	byFlag, byCommand := flagNames(), argumentNames()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "serve" {
			return // it knows no lab
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
		set := c.LocalNonPersistentFlags()
		if c == root {
			set = c.PersistentFlags()
		}
		set.VisitAll(func(f *pflag.Flag) {
			if n, ok := byFlag[f.Name]; ok && (c == root || (f.Name != "name" && f.Name != "lab")) {
				_ = c.RegisterFlagCompletionFunc(f.Name, n.complete(a)) // the flag is there
			}
		})
		if args, ok := byCommand[c.CommandPath()]; ok {
			c.ValidArgsFunction = func(cmd *cobra.Command, before []string, prefix string) ([]string, cobra.ShellCompDirective) {
				if len(before) >= len(args) {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				all, how := args[len(before)].complete(a)(cmd, before, prefix)
				return slices.DeleteFunc(all, func(s string) bool { return slices.Contains(before, s) }), how // twice is no pair
			}
		}
	}
	walk(root)
}

func (n names) complete(a *app) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		all, err := n(cmd.Context(), a)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, prefix) }), cobra.ShellCompDirectiveNoFileComp
	}
}

func fixed(all ...string) names {
	return func(context.Context, *app) ([]string, error) { return slices.Clone(all), nil }
}

func labNames(_ context.Context, a *app) ([]string, error) { return lab.Names(a.env.lab()) }

func titleNames(ctx context.Context, a *app) ([]string, error) {
	return titlesThat(ctx, a, func(control.Title) bool { return true })
}

// publishedNames are the titles that have video; the others are words alone.
func publishedNames(ctx context.Context, a *app) ([]string, error) {
	return titlesThat(ctx, a, func(t control.Title) bool { return len(t.Rungs) > 0 })
}

func titlesThat(ctx context.Context, a *app, good func(control.Title) bool) ([]string, error) {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return nil, err
	}
	ts, err := client.Titles(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range ts.Titles {
		if good(t) {
			out = append(out, t.ID+"\t"+t.Name)
		}
	}
	return out, nil
}

func regionNames(_ context.Context, a *app) ([]string, error) {
	t, err := a.declared()
	if t == nil || err != nil {
		return nil, err
	}
	return t.RegionNames(), nil
}

// movable completes the regions that are evacuated, or those that are not.
func movable(evacuated bool) names {
	return func(ctx context.Context, a *app) ([]string, error) {
		st, err := labStatus(ctx, a)
		if err != nil {
			return nil, err
		}
		client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
		if err != nil {
			return moves(st, nil, evacuated), nil // what moves now, only the daemon knows
		}
		now, _ := client.FailoverStatus(ctx) // without it the others are offered
		return moves(st, now, evacuated), nil
	}
}

// moves are the regions that a failover takes, or a failback: one whose move has
// not ended may go on either way.
func moves(st control.Status, now []control.Failover, evacuated bool) (out []string) {
	for _, r := range st.Regions {
		open := slices.ContainsFunc(now, func(m control.Failover) bool {
			return m.Region == r.Name && (m.State == "running" || m.State == "cut short")
		})
		if open || (r.Share == 0) == evacuated {
			out = append(out, r.Name)
		}
	}
	return out
}

// loggedNames are the lab, its regions and its instances.
func loggedNames(ctx context.Context, a *app) ([]string, error) {
	all, err := instanceNames(ctx, a)
	if err != nil {
		return nil, err
	}
	regions, err := regionNames(ctx, a)
	return slices.Concat([]string{"lab"}, regions, all), err
}

func instanceNames(ctx context.Context, a *app) ([]string, error) {
	st, err := labStatus(ctx, a)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range st.Regions {
		for _, i := range r.Instances {
			out = append(out, i.Name)
		}
	}
	return out, nil
}

func ispNames(_ context.Context, a *app) ([]string, error) {
	t, err := a.declared()
	if t == nil || err != nil {
		return nil, err
	}
	var out []string
	for _, r := range t.Regions {
		for _, i := range r.ISPs {
			out = append(out, i.Name)
		}
	}
	return out, nil
}

// scopeNames are the appliances of the fill, and the sites and regions they stand in.
func scopeNames(ctx context.Context, a *app) ([]string, error) {
	appliances, err := applianceNames(ctx, a)
	if err != nil {
		return nil, err
	}
	regions, err := regionNames(ctx, a)
	var sites []string
	for _, name := range appliances {
		site, _, _ := strings.Cut(name, "/")
		sites = append(sites, site)
	}
	return slices.Concat(appliances, slices.Compact(sites), regions), err
}

// applianceNames are those of the fill, as it takes them: without the region.
func applianceNames(ctx context.Context, a *app) ([]string, error) {
	all, err := instanceNames(ctx, a)
	var out []string
	for _, name := range all {
		_, rest, _ := strings.Cut(name, "/")
		if _, kind, _ := strings.Cut(rest, "/"); strings.HasPrefix(kind, string(topology.RoleOCA)+"/") {
			out = append(out, rest)
		}
	}
	return out, err
}
