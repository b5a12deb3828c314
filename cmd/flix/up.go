package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

type upOptions struct {
	regions int
	file    string
	runtime string
	dryRun  bool
	out     output
}

func newUpCmd(a *app) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use: "up", Short: "Bring a lab up, or converge a running one", Args: cobra.NoArgs,
		Long: `Brings a lab up and returns when a title has played from every region. A second
up changes nothing; with another --regions or --topology it adds and removes what
differs and leaves the rest alone. Interrupted or killed anywhere, the same
command goes on.`,
		Example: "  flix lab up --regions 3\n  flix lab up --topology planet.yaml --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			t, err := o.topology(cmd)
			if err != nil {
				return err
			}
			return runUp(cmd.Context(), a, o, t)
		},
	}
	c.Flags().IntVar(&o.regions, "regions", 3, "number of preset regions, 1 to 6")
	c.Flags().StringVar(&o.file, "topology", "", "YAML file that declares the planet (see flix lab topology)")
	c.Flags().StringVar(&o.runtime, "runtime", "auto", "auto, embedded or containers")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the plan and the budget, touch nothing")
	c.MarkFlagsMutuallyExclusive("regions", "topology")
	o.out.flag(c, "text", "json")
	return c
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

func readTopology(cmd *cobra.Command, file string) (topology.Topology, error) {
	if file == "-" {
		t, err := topology.Parse(cmd.InOrStdin(), "stdin")
		return t, invalid(err)
	}
	f, err := os.Open(file)
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

// pickRuntime settles --runtime and says why.
func pickRuntime(want string) (name, why string, err error) {
	switch want {
	case "auto":
		return "embedded", "the containers runtime is not built yet", nil
	case "embedded":
		return "embedded", "", nil
	case "containers":
		return "", "", services.Errorf(services.Unavailable, "--runtime containers is not built yet").WithReason(services.ReasonNotBuilt).WithRemedy("use --runtime embedded: the same services and protocols, nothing to install")
	}
	return "", "", services.Errorf(services.Invalid, "--runtime: %q is not a runtime", want).WithRemedy("use auto, embedded or containers")
}

func runUp(ctx context.Context, a *app, o upOptions, t topology.Topology) error {
	rt, why, err := pickRuntime(o.runtime)
	if err != nil {
		return err
	}
	env := a.env.lab()
	p, err := lab.PathsOf(env, a.name)
	if err != nil {
		return err
	}
	if o.dryRun {
		return dryRun(ctx, a, o, p, t)
	}
	if err := enoughMemory(a.name, t); err != nil {
		return err
	}
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
	if r.Changes.Added == 0 && r.Changes.Removed == 0 {
		s.Printf("lab %s is up already: nothing changed; a title plays from every region (%s)\n", r.Name, render.MS(r.ReadyMS))
	} else {
		s.Printf("lab %s is up: %d instances in %d regions (%d added, %d removed), a title played from each after %s, %s of memory\n",
			s.Bold(r.Name), r.Instances, len(r.Regions), r.Changes.Added, r.Changes.Removed, s.Bold(render.MS(r.ReadyMS)), render.Bytes(r.RSSBytes))
	}
	for _, x := range r.Regions {
		s.Printf("  %s  %s\n", s.State(x.State), x.Name)
	}
	s.Printf("%s\n", s.Dim("next: flix play --title \"Harbor Lights\"  ·  flix top  ·  flix failover us-east"))
}

func dryRun(ctx context.Context, a *app, o upOptions, p lab.Paths, t topology.Topology) error {
	var running []string
	if p.Exists() {
		st, err := lab.OfflineStatus(ctx, a.env.lab(), p)
		if err != nil && services.ReasonOf(err) != services.ReasonNoLab {
			return err
		}
		for _, r := range st.Regions {
			for _, i := range r.Instances {
				if i.State == "running" {
					running = append(running, i.Name)
				}
			}
		}
	}
	plan, err := lab.PlanUp(a.name, t, running)
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
	b := plan.Budget
	s.Printf("%d regions, %d instances (%d to add, %d to remove) in %d processes\n", len(plan.Regions), b.Instances, len(plan.Add), len(plan.Remove), b.Processes)
	s.Printf("budget: %d ports, about %s of memory (%s free), %s of disk\n", b.Ports, render.Bytes(b.MemoryBytes), render.Bytes(b.FreeMemoryBytes), render.Bytes(b.DiskBytes))
	return nil
}

// enoughMemory refuses a lab that the machine cannot hold, before anything is
// made.
func enoughMemory(name string, t topology.Topology) error {
	plan, err := lab.PlanUp(name, t, nil)
	if err != nil {
		return err
	}
	if b := plan.Budget; b.FreeMemoryBytes > 0 && b.MemoryBytes > b.FreeMemoryBytes {
		return services.Errorf(services.Exhausted, "the lab needs about %s of memory and %s is free", render.Bytes(b.MemoryBytes), render.Bytes(b.FreeMemoryBytes)).
			WithRemedy("%s", fmt.Sprintf("use fewer regions (this has %d), or free some memory", len(plan.Regions)))
	}
	return nil
}
