package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

type upOptions struct {
	regions int
	file    string
	runtime string
	profile string
	pack    string
	network string
	dryRun  bool
	out     output
}

func newUpCmd(a *app) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use: "up", Short: "Bring a lab up, or converge a running one", Args: cobra.NoArgs,
		Long: `Brings a lab up and returns when a title has played from every region and the
appliances are full. A second up repairs what is missing; with another --regions
or --topology it adds and removes what differs, starts appliances anew that are
declared otherwise, and leaves the rest alone; without either the lab keeps the
topology it has. Other intervals (timing) hold for what starts from then on.
Interrupted or killed anywhere, the same command goes on.`,
		Example: "  flix lab up --regions 3\n  flix lab up --topology planet.yaml --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			t, err := o.wanted(cmd, a)
			if err != nil {
				return err
			}
			if err := o.contain(&t); err != nil {
				return err
			}
			return runUp(cmd.Context(), a, o, t)
		},
	}
	c.Flags().IntVar(&o.regions, "regions", 3, "number of preset regions, 1 to 6")
	c.Flags().StringVar(&o.file, "topology", "", "YAML file that declares the planet (see flix lab topology)")
	c.Flags().StringVar(&o.runtime, "runtime", "auto", "auto, embedded or containers")
	c.Flags().StringVar(&o.profile, "profile", "", "size of the real stores on the containers runtime: small, standard or large (default small)")
	c.Flags().StringVar(&o.pack, "pack", "", "what shares a container: instance or zone (default instance)")
	c.Flags().StringVar(&o.network, "network", "", "what connects the containers: bridge, or host: this machine's, where no partition by the engine is wanted (default bridge)")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the plan and the budget, touch nothing")
	c.MarkFlagsMutuallyExclusive("regions", "topology")
	o.out.flag(c, "text", "json", "yaml")
	return c
}

// wanted is the topology to converge to: the file's or the preset's, or what the
// lab has where neither is asked for. How its containers are made stays, unless
// the file or a flag says otherwise.
func (o upOptions) wanted(cmd *cobra.Command, a *app) (topology.Topology, error) {
	have, err := a.declared()
	if err != nil {
		return topology.Topology{}, err
	}
	if have == nil {
		return o.topology(cmd)
	}
	if o.file == "" && !cmd.Flags().Changed("regions") {
		msg := a.env.errOut()
		msg.Printf("%s topology: %s, as lab %s has it\n", msg.Dim("·"), services.Count(len(have.Regions), "region"), a.name)
		return *have, nil
	}
	t, err := o.topology(cmd)
	t.Containers = t.Containers.Or(have.Containers)
	return t, err
}

// topology reads the file, or builds the preset.
func (o upOptions) topology(cmd *cobra.Command) (topology.Topology, error) {
	if o.file == "" {
		t, err := topology.Preset(o.regions)
		if err != nil {
			return t, services.Errorf(services.Invalid, "--%v", err)
		}
		return t, nil
	}
	return readTopology(cmd, o.file)
}

// declared is the topology of the lab, nil if there is none.
func (a *app) declared() (*topology.Topology, error) {
	p, err := lab.PathsOf(a.env.lab(), a.name)
	if err != nil {
		return nil, err
	}
	return lab.Declared(p)
}

// contain puts the flags about containers over what the topology says.
func (o upOptions) contain(t *topology.Topology) error {
	if o.runtime == lab.EmbeddedRuntime {
		for _, f := range []struct{ name, value, why string }{
			{"profile", o.profile, "the embedded runtime has stores of one size"},
			{"pack", o.pack, "nothing is packed on the embedded runtime"},
			{"network", o.network, "the embedded runtime has no containers to connect"},
		} {
			if f.value != "" {
				return services.Errorf(services.Invalid, "--%s: %s", f.name, f.why).WithRemedy("leave --%s out, or take --runtime containers", f.name)
			}
		}
	}
	if o.profile != "" {
		t.Containers.Profile = topology.Profile(o.profile)
	}
	if o.pack != "" {
		t.Containers.Pack = topology.Pack(o.pack)
	}
	if o.network != "" {
		t.Containers.Network = topology.Network(o.network)
	}
	return invalid(t.Validate())
}

func readTopology(cmd *cobra.Command, file string) (topology.Topology, error) {
	if file == "-" {
		t, err := topology.Parse(input.Reader(cmd.Context(), cmd.InOrStdin()), "stdin")
		return t, invalid(err)
	}
	f, err := input.Open(cmd.Context(), file)
	if err != nil {
		return topology.Topology{}, &services.Error{Op: "--topology", Kind: services.NotFound, Err: err, Remedy: "print one to start from: flix lab topology show --regions 3 > planet.yaml"}
	}
	defer f.Close()
	t, err := topology.Parse(f, file)
	return t, invalid(err)
}

func invalid(err error) error {
	if err == nil {
		return nil
	}
	return &services.Error{Kind: services.Invalid, Err: err}
}

func runUp(ctx context.Context, a *app, o upOptions, t topology.Topology) error {
	env := a.env.lab()
	p, err := lab.PathsOf(env, a.name)
	if err != nil {
		return err
	}
	rt, why, err := lab.PickRuntime(ctx, env, p, o.runtime, t)
	if err != nil {
		return err
	}
	sized := lab.SizeStores(rt, t)
	if o.dryRun {
		return dryRun(ctx, a, o, rt, p, sized)
	}
	if !p.Exists() {
		if err := enoughMemory(a.name, rt, t, lab.FreeMemory()); err != nil {
			return err
		}
	}
	t = sized
	msg := a.env.errOut()
	if why != "" {
		msg.Printf("%s runtime: %s (%s)\n", msg.Dim("·"), rt, why)
	}
	client, err := lab.EnsureDaemon(ctx, env, p)
	if err != nil {
		return err
	}
	view := render.NewSteps(msg)
	res, err := client.Up(ctx, control.UpRequest{Topology: t, Runtime: rt}, showSteps(view, "up"))
	view.Close()
	if err != nil {
		return err
	}
	if o.out.machine() {
		return o.out.print(a, res)
	}
	printUp(a, res)
	return nil
}

// showSteps turns a verb's events into a display.
func showSteps(view *render.Steps, verb string) control.Progress {
	return func(e control.Event) {
		switch e.Kind {
		case verb + ".begin":
			view.Begin(e.Text)
		case verb + ".step":
			name, ms := e.Subject, 0.0
			if s, ok := e.Data["step"].(string); ok {
				name = s
			}
			if v, ok := e.Data["ms"].(float64); ok {
				ms = v
			}
			view.Done(name, e.Text, ms)
		case verb + ".live":
			view.Live("%s", e.Text)
		default:
			view.Note(e.Text)
		}
	}
}

func printUp(a *app, r control.UpResult) {
	s := a.env.out()
	if r.Changes == (control.Changes{}) {
		s.Printf("lab %s is up already: nothing changed; a title plays from every region (%s)\n", r.Name, render.MS(r.ReadyMS))
	} else {
		whole := "" // little later, if nothing had to wait for the first play
		if slices.ContainsFunc(r.Steps, func(x control.Step) bool { return x.Name == lab.RestStep }) {
			whole = fmt.Sprintf("the rest was there after %s, ", render.MS(r.WholeMS))
		}
		anew := ""
		if r.Changes.Renewed > 0 {
			anew = fmt.Sprintf(", %d started anew", r.Changes.Renewed)
		}
		s.Printf("lab %s is up: %s in %s (%d added, %d removed%s), a title played from each after %s, %s%s of memory\n",
			s.Bold(r.Name), services.Count(r.Instances, "instance"), services.Count(len(r.Regions), "region"), r.Changes.Added, r.Changes.Removed, anew, s.Bold(render.MS(r.ReadyMS)), whole, render.Bytes(r.RSSBytes))
	}
	for _, x := range r.Regions {
		s.Printf("  %s  %s\n", s.State(x.State), x.Name)
	}
	next := "next: flix play --title \"Harbor Lights\"  ·  flix top"
	if move := nextMove(r.Regions); move != "" {
		next += "  ·  " + move
	}
	s.Printf("%s\n", s.Dim(next))
}

// nextMove is a move that the regions can make, "" if there is none: one alone has
// nobody to go to, and one that is evacuated can only return.
func nextMove(all []control.RegionState) string {
	if len(all) < 2 {
		return ""
	}
	for _, r := range all {
		if r.State == "evacuated" {
			return "flix failback " + r.Name
		}
	}
	return "flix failover " + all[0].Name
}

func dryRun(ctx context.Context, a *app, o upOptions, rt string, p lab.Paths, t topology.Topology) error {
	plan, err := lab.PreviewUp(ctx, a.env.lab(), p, rt, t)
	if err != nil {
		return err
	}
	if o.out.machine() {
		return o.out.print(a, plan)
	}
	s := a.env.out()
	s.Printf("plan for lab %s on the %s runtime; nothing is touched\n", s.Bold(plan.Name), plan.Runtime)
	for _, id := range plan.Add {
		s.Printf("  %s %s\n", s.Good("+"), id)
	}
	for _, id := range plan.Remove {
		s.Printf("  %s %s\n", s.Bad("-"), id)
	}
	anew := ""
	for _, id := range plan.Renew {
		s.Printf("  %s %s, declared otherwise: it starts anew\n", s.Warn("~"), id)
		anew = fmt.Sprintf(", %d to start anew", len(plan.Renew))
	}
	if kept := lab.TimingKept(plan.Name, plan.TimingKept); kept != "" {
		s.Printf("  %s %s\n", s.Warn("~"), kept)
	}
	b := plan.Budget
	s.Printf("%s, %s (%d to add, %d to remove%s) in %d processes\n", services.Count(len(plan.Regions), "region"), services.Count(b.Instances, "instance"), len(plan.Add), len(plan.Remove), anew, b.Processes)
	s.Printf("budget: %d ports, about %s of memory (%s free), %s of disk\n", b.Ports, render.Bytes(b.MemoryBytes), render.Bytes(b.FreeMemoryBytes), render.Bytes(b.DiskBytes))
	return nil
}

// enoughMemory refuses a lab that the machine cannot hold, before anything is
// made. The topology is as declared: how many nodes its stores have is up to the
// profile. free is in bytes; 0 where the machine does not tell.
func enoughMemory(name, rt string, t topology.Topology, free int64) error {
	plan, err := lab.PlanUp(name, rt, lab.SizeStores(rt, t))
	if err != nil {
		return err
	}
	if need := plan.Budget.MemoryBytes; free > 0 && need > free {
		return services.Errorf(services.Exhausted, "the lab needs about %s of memory and %s is free", render.Bytes(need), render.Bytes(free)).
			WithRemedy("%s", lessMemory(name, rt, t, free))
	}
	return nil
}

// lessMemory says what would fit: the largest profile, or number of regions,
// that does.
func lessMemory(name, rt string, t topology.Topology, free int64) string {
	fits := func(t topology.Topology) bool {
		p, err := lab.PlanUp(name, rt, lab.SizeStores(rt, t))
		return err == nil && p.Budget.MemoryBytes <= free
	}
	if rt == lab.ContainersRuntime {
		for _, p := range []topology.Profile{topology.Large, topology.Standard, topology.Small} {
			smaller := t
			smaller.Containers.Profile = p
			if fits(smaller) {
				return fmt.Sprintf("--profile %s fits; or free some memory", p)
			}
		}
		t.Containers.Profile = topology.Small
	}
	for n := len(t.Regions) - 1; n > 0; n-- {
		if fits(firstRegions(t, n)) {
			if rt == lab.ContainersRuntime {
				return fmt.Sprintf("--regions %d --profile small fits; or free some memory", n)
			}
			return fmt.Sprintf("--regions %d fits; or free some memory", n)
		}
	}
	if rt == lab.ContainersRuntime {
		return "free some memory: not even one region of real stores fits; --runtime embedded needs far less"
	}
	return "free some memory: not even one region fits"
}

// firstRegions is a topology without all but its first n regions.
func firstRegions(t topology.Topology, n int) topology.Topology {
	t.Regions = t.Regions[:n]
	t.Links = slices.DeleteFunc(slices.Clone(t.Links), func(l topology.Link) bool {
		return slices.ContainsFunc(l.Between[:], func(name string) bool { _, ok := t.Region(name); return !ok })
	})
	return t
}
