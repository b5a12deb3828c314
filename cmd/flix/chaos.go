package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
)

func newChaosCmd(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "chaos", Short: "Break things on purpose: faults, experiments, a monkey",
		Long: `Faults are values: what kind, on what, how strong, and a time to live after
which they revert by themselves, where they act, even if this command and the
lab's daemon are gone. Before one acts its blast radius is shown; one that would
leave no region, or break a quorum, is refused with the arithmetic.`,
		Example: `  flix chaos ls
  flix chaos run kill --target us-east/a/license/1 --ttl 20s
  flix chaos run latency --target us-east --to eu-west delay=300ms
  flix chaos run fail-call --target recommend percent=50 devices=tv
  flix chaos region us-east --down
  flix chaos experiment run license-slow
  flix chaos stop --all`,
	}
	c.AddCommand(newChaosLsCmd(a), newChaosRunCmd(a), newChaosStopCmd(a), newChaosHistoryCmd(a), newChaosRegionCmd(a), newExperimentCmd(a), newMonkeyCmd(a))
	return c
}

func newChaosLsCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ls", Short: "Faults in force, and the kinds there are", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			fs, err := faultsOf(cmd.Context(), a)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, fs)
			}
			return printFaults(a, fs)
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

// faultsOf asks the lab; without one there are still the kinds.
func faultsOf(ctx context.Context, a *app) (control.Faults, error) {
	none := control.Faults{Active: []control.ActiveFault{}, Kinds: fault.Kinds()}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if services.ReasonOf(err) == services.ReasonNoLab {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	return client.Faults(ctx)
}

func printFaults(a *app, fs control.Faults) error {
	s := a.env.out()
	if len(fs.Active) == 0 {
		s.Printf("no fault is in force\n\n")
	} else {
		var rows [][]string
		for _, f := range fs.Active {
			left := "until stopped"
			if !f.Until.IsZero() {
				left = (time.Duration(f.RemainingS*10) * time.Second / 10).String()
			}
			rows = append(rows, []string{f.ID, f.Kind, ends(f.Fault), paramText(f.Params), left, f.By})
		}
		if err := s.Table([]string{"id", "kind", "target", "parameters", "left", "by"}, rows); err != nil {
			return err
		}
		s.Printf("\n")
	}
	var rows [][]string
	for _, k := range fs.Kinds {
		var ps []string
		for _, p := range k.Params {
			ps = append(ps, p.Name+"="+p.Default)
		}
		targets := strings.Join(k.Targets, " ")
		if len(k.Targets) > 4 {
			targets = "any"
		}
		if k.To {
			targets += " [--to]"
		}
		rows = append(rows, []string{k.Name, targets, strings.Join(ps, " "), k.Summary})
	}
	return s.Table([]string{"kind", "targets", "parameters", "what it does"}, rows)
}

func ends(f fault.Fault) string {
	if f.To == "" {
		return f.Target
	}
	return f.Target + " – " + f.To
}

func paramText(p map[string]string) string {
	var out []string
	for k, v := range p {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

type chaosRunOptions struct {
	req     control.FaultRequest
	ttl     string
	yes     bool
	out     output
	setting []string
}

func newChaosRunCmd(a *app) *cobra.Command {
	var o chaosRunOptions
	c := &cobra.Command{
		Use: "run KIND --target T [name=value…]", Short: "Begin a fault that reverts by itself", Args: cobra.MinimumNArgs(1),
		Long: `Begins a fault. A target is an instance (us-east/a/play/1), a zone (us-east/a),
a region, a service everywhere or in a region (play, play@us-east), an ISP or an
exchange by its name, an appliance (us-east-isp-1/oca/1, with or without its
region in front); for calls a service (license), a method of it (license/Issue)
or a path at the gateway (/play/start). Faults of the network lie between
--target and --to, or between the target and everything else.`,
		Example: `  flix chaos run kill --target us-east/b/play/2 --ttl 20s --dry-run
  flix chaos run partition --target us-east --to eu-west one_way=true
  flix chaos run slow-call --target license/Issue delay=2s viewers=10
  flix chaos run disk-full --target us-east-isp-1/oca/1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			o.req.Kind = args[0]
			if err := o.read(args[1:]); err != nil {
				return err
			}
			return runChaos(cmd.Context(), a, o)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var out []string
			for _, k := range fault.Kinds() {
				if len(args) == 0 {
					out = append(out, k.Name+"\t"+k.Summary)
				} else if k.Name == args[0] {
					for _, p := range k.Params {
						out = append(out, p.Name+"=\t"+p.Help)
					}
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
	}
	fl := c.Flags()
	fl.StringVar(&o.req.Target, "target", "", "what it is about")
	fl.StringVar(&o.req.To, "to", "", "the other end of a fault of the network")
	fl.StringVar(&o.ttl, "ttl", fault.DefaultTTL.String(), "when it reverts by itself; never: only when it is stopped")
	fl.StringArrayVarP(&o.setting, "param", "p", nil, "a parameter as name=value; the same as one after the kind")
	fl.BoolVar(&o.req.DryRun, "dry-run", false, "show the blast radius, change nothing")
	fl.BoolVarP(&o.yes, "yes", "y", false, "do not ask on a terminal")
	fl.BoolVar(&o.req.Force, "force", false, "accept a broken quorum; the last region is never taken")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

// read takes parameters and time to live.
func (o *chaosRunOptions) read(args []string) error {
	o.req.By, o.req.Params = "run", map[string]string{}
	for _, x := range slices.Concat(o.setting, args) {
		name, value, ok := strings.Cut(x, "=")
		if !ok || name == "" {
			return services.Errorf(services.Invalid, "%q is no parameter", x).WithRemedy("write it like delay=200ms; flix chaos ls lists each kind's")
		}
		if earlier, twice := o.req.Params[name]; twice {
			return services.Errorf(services.Invalid, "%s is given twice: %s=%s and %s", name, name, earlier, x).WithRemedy("leave one of them out")
		}
		o.req.Params[name] = value
	}
	if o.ttl == "never" {
		o.req.Forever = true
		return nil
	}
	d, err := time.ParseDuration(o.ttl)
	if err != nil || d <= 0 {
		return services.Errorf(services.Invalid, "--ttl: %q is no time above 0", o.ttl).WithRemedy("write it like 30s, or never")
	}
	k, err := fault.KindOf(o.req.Kind)
	if err != nil {
		return err
	}
	if o.req.TTL = d; !k.Reverts && o.ttl == fault.DefaultTTL.String() {
		o.req.TTL = 0 // nobody gave it
	}
	return nil
}

func runChaos(ctx context.Context, a *app, o chaosRunOptions) error {
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return err
	}
	if err := confirmFault(ctx, a, client, o.req, o.yes); err != nil {
		return err
	}
	st, err := client.RunFault(ctx, o.req)
	if err != nil {
		return err
	}
	if o.out.machine() {
		return o.out.print(a, st)
	}
	printStarted(a, st)
	return nil
}

// confirmFault shows a fault's blast radius on a terminal and asks.
func confirmFault(ctx context.Context, a *app, client *control.Client, r control.FaultRequest, yes bool) error {
	if r.DryRun || !a.asks(yes) {
		return nil
	}
	r.DryRun = true
	plan, err := client.RunFault(ctx, r)
	if err != nil {
		return err
	}
	msg := a.env.errOut()
	msg.Printf("%s on %s touches %s:\n", plan.Kind, ends(plan.Fault), services.Count(len(plan.Blast.Instances), "instance"))
	for _, t := range plan.Blast.Text {
		msg.Printf("  %s\n", t)
	}
	return a.confirm(ctx, "begin it?")
}

func printStarted(a *app, st control.FaultStarted) {
	s := a.env.out()
	if st.DryRun {
		s.Printf("%s would touch %s in %s\n", s.Bold(st.Kind+" on "+ends(st.Fault)), services.Count(len(st.Blast.Instances), "instance"), cmp.Or(strings.Join(st.Blast.Regions, ", "), "no region"))
	} else {
		s.Printf("%s  %s %s\n", s.Bold(st.ID), st.Kind+" on "+ends(st.Fault), s.State(st.State))
	}
	for _, t := range st.Blast.Text {
		s.Printf("  %s\n", t)
	}
	switch {
	case st.DryRun:
		s.Printf("nothing was changed\n")
	case st.State == "done":
		s.Printf("it is over: there is nothing to revert\n")
	case st.Until.IsZero():
		s.Printf("%s\n", s.Dim("it holds until: flix chaos stop "+st.ID))
	default:
		s.Printf("%s\n", s.Dim(fmt.Sprintf("it reverts by itself at %s; sooner by: flix chaos stop %s", st.Until.Local().Format(time.TimeOnly), st.ID)))
	}
}

func newChaosStopCmd(a *app) *cobra.Command {
	var (
		out output
		all bool
	)
	c := &cobra.Command{
		Use: "stop [ID…] [--all]", Short: "Lift faults before their time",
		Long: "Lifts faults. --all always works: with a dead daemon it starts one, which lifts\nwhat it finds, and says so.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			switch {
			case all && len(args) > 0:
				return services.Errorf(services.Invalid, "--all: lifts every fault, and %s means some", services.List(args)).WithRemedy("leave one of the two out")
			case !all && len(args) == 0:
				return services.Errorf(services.Invalid, "no fault was named").WithRemedy("name one of flix chaos ls, or lift every one with --all")
			}
			res, err := stopFaults(cmd.Context(), a, all, args)
			if err != nil {
				return err
			}
			if out.machine() {
				return out.print(a, res)
			}
			printStopped(a, res)
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "lift every fault")
	out.flag(c, "text", "json", "yaml")
	return c
}

func stopFaults(ctx context.Context, a *app, all bool, ids []string) (control.FaultsStopped, error) {
	if all {
		return lab.StopDead(ctx, a.env.lab(), a.name)
	}
	client, _, err := lab.Connect(ctx, a.env.lab(), a.name)
	if err != nil {
		return control.FaultsStopped{}, err
	}
	return client.StopFaults(ctx, control.FaultStop{IDs: ids})
}

func printStopped(a *app, r control.FaultsStopped) {
	s := a.env.out()
	for _, n := range r.Notes {
		s.Printf("%s\n", n)
	}
	if len(r.Stopped) == 0 {
		s.Printf("no fault was in force\n")
	}
	for _, f := range r.Stopped {
		s.Printf("%s  %s on %s is over: %s", s.Bold(f.ID), f.Kind, ends(f.Fault), f.How)
		if f.Note != "" {
			s.Printf(" (%s)", f.Note)
		}
		s.Printf("\n")
	}
}

func newChaosHistoryCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "history", Short: "Faults that are over", Args: cobra.NoArgs,
		RunE: show(a, &out, func(ctx context.Context, c *control.Client) (control.FaultHistory, error) { return c.FaultHistory(ctx) }, func(h control.FaultHistory) error {
			s := a.env.out()
			if len(h.Faults) == 0 {
				s.Printf("nothing was broken on purpose yet\n")
				return nil
			}
			var rows [][]string
			for _, f := range h.Faults {
				rows = append(rows, []string{f.ID, f.Kind, ends(f.Fault), paramText(f.Params), f.Began.Local().Format(time.TimeOnly), f.Ended.Sub(f.Began).Round(100 * time.Millisecond).String(), f.How, f.By, f.Note})
			}
			return s.Table([]string{"id", "kind", "target", "parameters", "began", "lasted", "ended", "by", "note"}, rows)
		}),
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

// newKeeperCmd is the process that outlives the daemon for a fault.
func newKeeperCmd(a *app) *cobra.Command {
	var dir, id, until string
	c := &cobra.Command{Use: lab.KeeperVerb, Hidden: true, Args: cobra.NoArgs, Short: "See to the end of a fault", RunE: func(cmd *cobra.Command, _ []string) error {
		at, err := time.Parse(time.RFC3339Nano, until)
		if err != nil {
			return services.Errorf(services.Invalid, "--until: %v", err)
		}
		return lab.RunKeeper(cmd.Context(), a.env.lab(), dir, id, at)
	}}
	c.Flags().StringVar(&dir, "lab-dir", "", "folder of the lab")
	c.Flags().StringVar(&id, "fault", "", "the fault")
	c.Flags().StringVar(&until, "until", "", "when its time is up")
	return c
}
