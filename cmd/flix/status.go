package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// labStatus asks the daemon, or reads the journal when it is dead.
func labStatus(ctx context.Context, a *app) (control.Status, error) {
	p, err := lab.PathsOf(a.env.lab(), a.name)
	if err != nil {
		return control.Status{}, err
	}
	env := a.env.lab()
	st, err := control.NewClient(p.Socket()).Status(ctx)
	if errors.Is(err, control.ErrNoDaemon) {
		return lab.OfflineStatus(ctx, env, p)
	}
	if err == nil && st.Daemon.Version != env.Version && env.Differs != nil {
		env.Differs(st.Daemon.Version)
	}
	return st, err
}

func newStatusCmd(a *app) *cobra.Command {
	var (
		watch bool
		out   output
	)
	c := &cobra.Command{
		Use: "status", Short: "State of the regions and instances", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			once := func(ctx context.Context, a *app) error {
				st, err := labStatus(ctx, a)
				if err != nil {
					return err
				}
				return printStatus(a, out, st)
			}
			if watch {
				return watched(cmd.Context(), a, out, once)
			}
			return once(cmd.Context(), a)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "print it again every second")
	out.flag(c, "table", "wide", "json", "yaml")
	return c
}

func printStatus(a *app, out output, st control.Status) error {
	if out.machine() {
		return out.print(a, st)
	}
	s := a.env.out()
	s.Printf("lab %s · %s runtime · daemon %s · %s · %s\n", s.Bold(st.Name), st.Runtime, s.State(st.Daemon.State), services.Count(st.Instances, "instance"), render.Bytes(st.RSSBytes))
	if st.Daemon.State != "running" {
		s.Printf("%s\n", s.Dim("  the daemon is dead, what it started runs on; flix lab up starts a new one"))
	}
	for _, n := range st.Notes {
		s.Printf("  %s %s\n", s.Bad("!"), n)
	}
	now := time.Now()
	if out.format == "wide" {
		var rows [][]string
		for _, r := range st.Regions {
			for _, i := range r.Instances {
				where := i.Container
				if i.PID != 0 {
					where = strconv.Itoa(i.PID)
				}
				rows = append(rows, []string{i.Name, s.State(i.State), where, render.Ago(i.Started, now), endpoints(i.Endpoints)})
			}
		}
		return s.Table([]string{"instance", "state", "pid", "age", "endpoints"}, rows)
	}
	var rows [][]string
	for _, r := range st.Regions {
		up := 0
		for _, i := range r.Instances {
			if i.State == "running" {
				up++
			}
		}
		rows = append(rows, []string{r.Name, s.State(r.State), fmt.Sprintf("%.0f %%", r.Share*100), fmt.Sprintf("%d/%d", up, len(r.Instances)), missing(r)})
	}
	return s.Table([]string{"region", "state", "share", "running", "missing"}, rows)
}

func missing(r control.RegionStatus) string {
	var names []string
	for _, i := range r.Instances {
		if i.State != "running" {
			names = append(names, strings.TrimPrefix(i.Name, r.Name+"/"))
		}
	}
	if len(names) > 4 {
		return strings.Join(names[:4], " ") + fmt.Sprintf(" and %d more", len(names)-4)
	}
	return strings.Join(names, " ")
}

func endpoints(m map[string]string) string {
	var out []string
	for n, e := range m {
		out = append(out, n+"="+e)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func newLsCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ls", Short: "List the labs of this user", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			names, err := lab.Names(a.env.lab())
			if err != nil {
				return err
			}
			type row struct {
				Name      string   `json:"name"`
				Runtime   string   `json:"runtime"`
				Daemon    string   `json:"daemon"`
				Regions   []string `json:"regions"`
				Instances int      `json:"instances"`
				RSSBytes  int64    `json:"rss_bytes"`
			}
			list := []row{}
			for _, n := range names {
				st, err := labStatus(cmd.Context(), &app{env: a.env, name: n})
				r := row{Name: n, Runtime: st.Runtime, Daemon: st.Daemon.State, Instances: st.Instances, RSSBytes: st.RSSBytes, Regions: []string{}}
				if err != nil {
					if services.ReasonOf(err) != services.ReasonNoLab {
						return err
					}
					r.Daemon = "half made" // an up was cut short before it wrote its intent
				}
				for _, reg := range st.Regions {
					r.Regions = append(r.Regions, reg.Name)
				}
				list = append(list, r)
			}
			if out.machine() {
				return out.print(a, map[string]any{"labs": list})
			}
			s := a.env.out()
			var rows [][]string
			for _, r := range list {
				rows = append(rows, []string{r.Name, r.Runtime, s.State(r.Daemon), strings.Join(r.Regions, " "), strconv.Itoa(r.Instances), render.Bytes(r.RSSBytes)})
			}
			if len(rows) == 0 {
				s.Printf("there is no lab; start one: flix lab up --regions 3\n")
				return nil
			}
			return s.Table([]string{"lab", "runtime", "daemon", "regions", "instances", "memory"}, rows)
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

func newPortsCmd(a *app) *cobra.Command {
	var out output
	c := &cobra.Command{
		Use: "ports", Short: "Addresses of every instance", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			st, err := labStatus(cmd.Context(), a)
			if err != nil {
				return err
			}
			type port struct {
				Instance string `json:"instance"`
				Port     string `json:"port"`
				Address  string `json:"address"`
				State    string `json:"state"`
			}
			ports := []port{}
			for _, r := range st.Regions {
				for _, i := range r.Instances {
					for n, e := range i.Endpoints {
						ports = append(ports, port{i.Name, n, e, i.State})
					}
				}
			}
			slices.SortFunc(ports, func(a, b port) int { return strings.Compare(a.Instance+a.Port, b.Instance+b.Port) })
			if out.machine() {
				return out.print(a, map[string]any{"ports": ports})
			}
			s := a.env.out()
			var rows [][]string
			for _, p := range ports {
				rows = append(rows, []string{p.Address, p.Port, p.Instance, s.State(p.State)})
			}
			return s.Table([]string{"address", "port", "instance", "state"}, rows)
		},
	}
	out.flag(c, "table", "json", "yaml")
	return c
}

// newInstanceCmd makes stop, start and kill. Stop and start take the whole lab
// when no instance is named.
func newInstanceCmd(a *app, verb, short string) *cobra.Command {
	var out output
	whole := verb != "kill"
	c := &cobra.Command{
		Use: verb + " INSTANCE", Short: short, Args: cobra.ExactArgs(1),
		Example: "  flix lab " + verb + " us-east/a/license/1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			client, _, err := lab.Connect(cmd.Context(), a.env.lab(), a.name)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return switchLab(cmd.Context(), a, out, verb, client)
			}
			return switchInstance(cmd.Context(), a, out, verb, args[0], client)
		},
	}
	if whole {
		c.Use, c.Args = verb+" [INSTANCE]", cobra.MaximumNArgs(1)
		c.Example += "\n  flix lab " + verb
	}
	out.flag(c, "text", "json", "yaml")
	return c
}

// pastVerb is how the outcome of a verb is called.
var pastVerb = map[string]string{"stop": "stopped", "start": "started", "kill": "killed"}

func switchInstance(ctx context.Context, a *app, out output, verb, name string, client *control.Client) error {
	began := time.Now()
	if err := client.Instance(ctx, verb, name); err != nil {
		return err
	}
	if out.machine() {
		state := pastVerb[verb]
		if verb == "start" {
			state = "running"
		}
		return out.print(a, control.Switched{Lab: a.name, State: state, Instances: []string{name}, Steps: []control.Step{}, MS: float64(time.Since(began).Microseconds()) / 1000})
	}
	a.env.out().Printf("%s %s\n", name, pastVerb[verb])
	return nil
}

func switchLab(ctx context.Context, a *app, out output, verb string, client *control.Client) error {
	do, next := client.Halt, "start it again: flix lab start"
	if verb == "start" {
		do, next = client.Resume, "watch: flix play --title \"Harbor Lights\""
	}
	if a.name != lab.DefaultName {
		next += " --name " + a.name
	}
	view := render.NewSteps(a.env.errOut())
	res, err := do(ctx, showSteps(view, verb))
	view.Close()
	if err != nil {
		return err
	}
	if out.machine() {
		if res.Steps == nil {
			res.Steps = []control.Step{}
		}
		return out.print(a, res)
	}
	s := a.env.out()
	if len(res.Instances) == 0 {
		s.Printf("lab %s: nothing to %s\n", s.Bold(res.Lab), verb)
		return nil
	}
	s.Printf("lab %s %s: %s in %s\n", s.Bold(res.Lab), pastVerb[verb], services.Count(len(res.Instances), "instance"), render.MS(res.MS))
	s.Printf("%s\n", s.Dim(next))
	return nil
}
