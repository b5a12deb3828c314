package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
)

// fillRuleOptions is one change of a fill rule.
type fillRuleOptions struct {
	rule control.FillRule
	out  output
}

func (o *fillRuleOptions) run(ctx context.Context, a *app) error {
	if err := o.out.check(); err != nil {
		return err
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	rules, err := client.SetFillRule(ctx, o.rule)
	if err != nil {
		return err
	}
	if o.out.machine() {
		return o.out.print(a, rules)
	}
	s := a.env.out()
	if len(rules.Rules) == 0 {
		s.Printf("no rule is in force\n")
	}
	for _, r := range rules.Rules {
		s.Printf("%s\n", ruleLine(r))
	}
	return nil
}

// ruleLine is a rule in force, for people.
func ruleLine(r control.FillRule) string {
	scope := cmp.Or(r.Scope, "the lab")
	switch r.Kind {
	case "pause":
		return "paused: " + scope + " since " + r.Since
	case "pin":
		return "pinned: " + r.Title + " to " + scope + " since " + r.Since
	}
	return r.Kind + ": " + r.Title + " in " + scope + " since " + r.Since
}

func newFillPauseCmd(a *app) *cobra.Command {
	o := &fillRuleOptions{rule: control.FillRule{Kind: "pause", Active: true}}
	c := &cobra.Command{
		Use: "pause [SCOPE]", Short: "Give an appliance, a site, a region or the lab no new orders", Args: cobra.MaximumNArgs(1),
		Long: `Gives the appliances of SCOPE no new orders; without one, or with "lab", those
of the whole lab. Files under way are finished, and what is stored is served. It
lasts until "flix fill resume", whatever is restarted meanwhile.

While an exchange is paused, the ISP sites that depend on it wait for
fill_escalation and then fill from another region's exchange, or the object
stores.`,
		Example: "  flix fill pause us-east-isp-1/oca/1\n  flix fill pause us-east-ix\n  flix fill pause",
	}
	return ruleCmd(a, c, o)
}

func newFillResumeCmd(a *app) *cobra.Command {
	o := &fillRuleOptions{rule: control.FillRule{Kind: "pause"}}
	c := &cobra.Command{
		Use: "resume [SCOPE]", Short: "End a pause", Args: cobra.MaximumNArgs(1),
		Long: `Ends the pause of SCOPE, as it was paused: a site's pause does not end with that
of one of its appliances. Prints the rules that are left.`,
		Example: "  flix fill resume us-east-ix\n  flix fill resume",
	}
	return ruleCmd(a, c, o)
}

// ruleCmd completes a command whose arguments are a scope at most.
func ruleCmd(a *app, c *cobra.Command, o *fillRuleOptions) *cobra.Command {
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			o.rule.Scope = args[0]
		}
		return o.run(cmd.Context(), a)
	}
	o.out.flag(c, "text", "json", "yaml")
	return c
}

func newFillPinCmd(a *app) *cobra.Command {
	o := &fillRuleOptions{rule: control.FillRule{Kind: "pin", Active: true}}
	c := &cobra.Command{
		Use: "pin TITLE [SCOPE]", Short: "Keep a title on an appliance, a site, a region or everywhere", Args: cobra.RangeArgs(1, 2),
		Long: `Assigns a title to the appliances of SCOPE (default the whole lab) before
anything that is there by its popularity, as far as it fits. It lasts until
"flix fill unpin".`,
		Example: "  flix fill pin harbor-lights us-east-isp-1/oca/1\n  flix fill pin harbor-lights us-east",
	}
	return titleRuleCmd(a, c, o)
}

func newFillUnpinCmd(a *app) *cobra.Command {
	o := &fillRuleOptions{rule: control.FillRule{Kind: "pin"}}
	c := &cobra.Command{
		Use: "unpin TITLE [SCOPE]", Short: "End a pin", Args: cobra.RangeArgs(1, 2),
		Long:    "Ends the pin of a title to SCOPE, as it was pinned. Prints the rules that are\nleft.",
		Example: "  flix fill unpin harbor-lights us-east-isp-1/oca/1",
	}
	return titleRuleCmd(a, c, o)
}

// titleRuleCmd completes a command whose arguments are a title and a scope.
func titleRuleCmd(a *app, c *cobra.Command, o *fillRuleOptions) *cobra.Command {
	c.RunE = func(cmd *cobra.Command, args []string) error {
		o.rule.Title = args[0]
		if len(args) > 1 {
			o.rule.Scope = args[1]
		}
		return o.run(cmd.Context(), a)
	}
	o.out.flag(c, "text", "json", "yaml")
	return c
}
