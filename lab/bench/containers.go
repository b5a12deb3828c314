package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services/kv/cassandra"
)

// store is a container of a real store as the engine shows it: enough to run
// the same one without a lab.
type store struct {
	Name   string
	Config struct {
		Image  string
		Env    []string
		Cmd    []string
		Labels map[string]string
	}
	HostConfig struct{ Memory int64 }
	Mounts     []struct{ Type, Destination string }
}

func (s store) role() string    { return s.Config.Labels["lab.flix.role"] }
func (s store) address() string { return s.Config.Labels["lab.flix.address"] }

// port reads one of the instance's ports from the label that declares it.
func (s store) port(name string) (int, error) {
	var specs []struct {
		Ports map[string]int `json:"port_numbers"`
	}
	if err := json.Unmarshal([]byte(s.Config.Labels["lab.flix.specs"]), &specs); err != nil || len(specs) != 1 {
		return 0, fmt.Errorf("%s: its label lab.flix.specs cannot be read (%v)", s.Name, err)
	}
	return specs[0].Ports[name], nil
}

// packing is a way to put instances into containers, with the most that its
// start may take in terms of the stores' alone.
type packing struct {
	name  string
	ratio float64
}

// measureContainers compares the start of a lab on the containers runtime with
// the start of its stores alone, by plain docker run of the same images with
// the same settings.
func measureContainers(ctx context.Context, l lab, c config, w io.Writer) error {
	fmt.Fprintf(w, "%d regions on the containers runtime, this machine, one run each\n\n", c.regions)
	fmt.Fprintln(w, "| Figure | Measured | Target |")
	fmt.Fprintln(w, "|---|---|---|")
	var bare float64
	for _, p := range []packing{{"zone", 1.15}, {"instance", 1.4}} {
		ready, down, stores, err := l.containersUp(ctx, c, p, w)
		if err != nil {
			return err
		}
		if bare == 0 {
			if bare, err = reference(ctx, stores, w); err != nil {
				return err
			}
		}
		verdict := "met"
		if ready/bare > p.ratio {
			verdict = "missed"
		}
		fmt.Fprintf(w, "| ready (a title played from every region), packed by %s | %.1f s, ratio %.2f | %.2f, %s |\n", p.name, ready/1000, ready/bare, p.ratio, verdict)
		fmt.Fprintf(w, "| down, packed by %s | %.1f s | 10 s |\n", p.name, down/1000)
	}
	return nil
}

// reference measures the stores alone.
func reference(ctx context.Context, stores []store, w io.Writer) (float64, error) {
	fmt.Fprintln(os.Stderr, "its stores alone")
	bare, cpu, err := alone(ctx, stores)
	if err != nil {
		return 0, err
	}
	fmt.Fprint(w, cpuRow("the stores alone", cpu))
	fmt.Fprintf(w, "| the stores alone, by docker run, until all answer | %.1f s | reference |\n", bare/1000)
	return bare, nil
}

// containersUp brings a lab up and down, and returns how long it was until
// ready and until down, in milliseconds, with the stores that it had.
func (l lab) containersUp(ctx context.Context, c config, p packing, w io.Writer) (ready, down float64, stores []store, err error) {
	fmt.Fprintf(os.Stderr, "a lab, packed by %s\n", p.name)
	var up upReport
	whole, err := l.flixJSON(ctx, &up, "lab", "up", "--runtime", "containers", "--pack", p.name, "--regions", fmt.Sprint(c.regions), "-o", "json")
	if err != nil {
		return 0, 0, nil, err
	}
	fmt.Fprintf(w, "| the whole lab up and filled, packed by %s | %.1f s | |\n", p.name, whole/1000)
	if stores, err = l.stores(ctx); err != nil {
		return 0, 0, nil, err
	}
	roles, err := l.roles(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	cpu, err := cpuByRole(ctx, roles)
	if err != nil {
		return 0, 0, nil, err
	}
	fmt.Fprint(w, cpuRow("a lab that is up and filled, packed by "+p.name, cpu))
	if p.name == "zone" {
		err = l.memories(ctx, w, roles)
	} else {
		err = ownStart(ctx, roles, w)
	}
	if err != nil {
		return 0, 0, nil, err
	}
	down, _, err = l.flixTimed(ctx, "lab", "down")
	return up.ReadyMS, down, stores, err
}

// ownStart prints how long a service's container takes from the engine's start
// of its process until it says that it is up: the middle one of several starts.
func ownStart(ctx context.Context, roles map[string]string, w io.Writer) error {
	const starts = 5
	var took []time.Duration
	for id, role := range roles {
		if role != "license" {
			continue
		}
		for range starts {
			d, err := restarted(ctx, id)
			if err != nil {
				return err
			}
			took = append(took, d)
		}
		break
	}
	if len(took) == 0 {
		return errors.New("the lab has no container of the licence service")
	}
	slices.Sort(took)
	fmt.Fprintf(w, "| a service container's own start, median of %d | %d ms | 300 ms |\n", len(took), took[len(took)/2].Milliseconds())
	return nil
}

// restarted restarts a container and returns the time from the start of its
// process until its log says that it is up.
func restarted(ctx context.Context, id string) (time.Duration, error) {
	if _, err := docker(ctx, "restart", "--time", "2", id); err != nil {
		return 0, err
	}
	out, err := docker(ctx, "inspect", "--format", "{{.State.StartedAt}}", id)
	if err != nil {
		return 0, err
	}
	began, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(out)))
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	logs := exec.CommandContext(ctx, "docker", "logs", "--follow", "--timestamps", "--since", strings.TrimSpace(string(out)), id)
	pipe, err := logs.StdoutPipe()
	if err != nil {
		return 0, err
	}
	logs.Stderr = logs.Stdout
	if err := logs.Start(); err != nil {
		return 0, err
	}
	defer func() { cancel(); _ = logs.Wait() }()
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		at, text, _ := strings.Cut(lines.Text(), " ")
		if !strings.Contains(text, "host is up") {
			continue
		}
		up, err := time.Parse(time.RFC3339Nano, at)
		return up.Sub(began), err
	}
	return 0, fmt.Errorf("container %s does not say that it is up: %w", id, errors.Join(lines.Err(), ctx.Err()))
}

// docker runs the docker command and returns what it prints.
func docker(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil, fmt.Errorf("docker %s: %w: %s", args[0], err, exit.Stderr)
	}
	return out, err
}

func (l lab) label() string {
	return "label=lab.flix.dir=" + filepath.Join(l.work, "flix", "labs", "default")
}

// stores lists the containers of the lab's real stores.
func (l lab) stores(ctx context.Context) ([]store, error) {
	out, err := docker(ctx, "ps", "--quiet", "--filter", l.label(), "--filter", "label=lab.flix.specs")
	if err != nil {
		return nil, err
	}
	raw, err := docker(ctx, append([]string{"inspect"}, strings.Fields(string(out))...)...)
	if err != nil {
		return nil, err
	}
	var all []store
	return all, json.Unmarshal(raw, &all)
}

// roles maps the lab's containers to their roles.
func (l lab) roles(ctx context.Context) (map[string]string, error) {
	ids, err := docker(ctx, "ps", "--filter", l.label(), "--format", `{{.ID}} {{.Label "lab.flix.role"}}`)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(ids)) {
		id, r, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[id] = r
	}
	return out, nil
}

// memories prints what each kind of container takes, as the engine counts it.
func (l lab) memories(ctx context.Context, w io.Writer, role map[string]string) error {
	args := []string{"stats", "--no-stream", "--format", "{{.ID}} {{.MemUsage}}"}
	for id := range role {
		args = append(args, id)
	}
	out, err := docker(ctx, args...)
	if err != nil {
		return err
	}
	sums, counts, total := map[string]float64{}, map[string]int{}, 0.0
	for line := range strings.Lines(string(out)) {
		var (
			id, unit string
			n        float64
		)
		if _, err := fmt.Sscanf(strings.NewReplacer("MiB", " MiB", "GiB", " GiB", "KiB", " KiB").Replace(line), "%s %f %s", &id, &n, &unit); err != nil {
			return fmt.Errorf("docker stats says %q: %w", line, err)
		}
		switch unit {
		case "GiB":
			n *= 1024
		case "KiB":
			n /= 1024
		}
		sums[role[id]] += n
		counts[role[id]]++
		total += n
	}
	var rows []string
	for r, n := range sums {
		rows = append(rows, fmt.Sprintf("| memory of %d %s | %.0f MiB | |", counts[r], r, n))
	}
	slices.Sort(rows)
	fmt.Fprintln(w, strings.Join(rows, "\n"))
	fmt.Fprintf(w, "| memory in all | %.1f GiB | 10 GiB |\n", total/1024)
	return nil
}

// bareName marks what alone makes.
const bareName = "flix-bench-bare"

// alone starts the stores without a lab, all at once, and returns the
// milliseconds until every one answers and the nodes of the cluster see one
// another, and the processor time of each kind by then.
func alone(ctx context.Context, stores []store) (took float64, cpu map[string]float64, err error) {
	if len(stores) == 0 {
		return 0, nil, errors.New("the lab has no real stores")
	}
	first, err := subnetOf(stores[0].address())
	if err != nil {
		return 0, nil, err
	}
	defer func() {
		ctx := context.WithoutCancel(ctx)
		ids, lerr := docker(ctx, "ps", "--all", "--quiet", "--filter", "name="+bareName)
		if args := strings.Fields(string(ids)); len(args) > 0 {
			_, rerr := docker(ctx, append([]string{"rm", "--force", "--volumes"}, args...)...)
			lerr = errors.Join(lerr, rerr)
		}
		_, nerr := docker(ctx, "network", "rm", bareName)
		err = errors.Join(err, lerr, nerr)
	}()
	if _, err := docker(ctx, "network", "create", "--subnet", first, bareName); err != nil {
		return 0, nil, err
	}
	seeds, err := seedsOf(stores)
	if err != nil {
		return 0, nil, err
	}
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for n, s := range stores {
		args := []string{"run", "--detach", "--name", fmt.Sprintf("%s-%d", bareName, n), "--network", bareName, "--ip", s.address(), "--memory", fmt.Sprint(s.HostConfig.Memory)}
		for _, e := range s.Config.Env {
			switch name, _, _ := strings.Cut(e, "="); name {
			case "CASSANDRA_BROADCAST_ADDRESS": // no proxy stands before it here
				e = name + "=" + s.address()
			case "CASSANDRA_SEEDS":
				e = name + "=" + seeds
			}
			args = append(args, "--env", e)
		}
		for _, m := range s.Mounts {
			if m.Type == "volume" {
				args = append(args, "--volume", m.Destination) // a new one without a name
			}
		}
		args = append(append(args, s.Config.Image), s.Config.Cmd...)
		g.Go(func() error {
			if _, err := docker(gctx, args...); err != nil {
				return err
			}
			return answers(gctx, s, stores)
		})
	}
	if err := g.Wait(); err != nil {
		return 0, nil, err
	}
	took = float64(time.Since(began).Microseconds()) / 1000
	roles := map[string]string{}
	for n, s := range stores {
		id, err := docker(ctx, "inspect", "--format", "{{.Id}}", fmt.Sprintf("%s-%d", bareName, n))
		if err != nil {
			return 0, nil, err
		}
		roles[strings.TrimSpace(string(id))] = s.role()
	}
	cpu, err = cpuByRole(ctx, roles)
	return took, cpu, err
}

// subnetOf is the network of /20 that an address of a lab lies in.
func subnetOf(address string) (string, error) {
	_, n, err := net.ParseCIDR(address + "/20")
	if err != nil {
		return "", err
	}
	return n.String(), nil
}

func seedsOf(stores []store) (string, error) {
	var out []string
	for _, s := range stores {
		if s.role() != "kv" {
			continue
		}
		p, err := s.port("replication")
		if err != nil {
			return "", err
		}
		out = append(out, net.JoinHostPort(s.address(), fmt.Sprint(p)))
	}
	return strings.Join(out, ","), nil
}

// answers waits until a store takes connections; a node of the wide-column
// store also until it sees one node up in every datacentre.
func answers(ctx context.Context, s store, all []store) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	port, err := s.port("rpc")
	if err == nil && s.role() == "s3" {
		port = 7070
	}
	if err != nil {
		return err
	}
	nodes := 0
	for _, x := range all {
		if x.role() == "kv" {
			nodes++
		}
	}
	addr := net.JoinHostPort(s.address(), fmt.Sprint(port))
	for {
		err := probe(ctx, s.role(), addr, nodes)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", s.Name, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func probe(ctx context.Context, role, addr string, nodes int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if role == "kv" {
		st, err := cassandra.ReadState(ctx, addr, nil)
		if err != nil {
			return err
		}
		if n := len(st.Up()); n != nodes {
			return fmt.Errorf("it sees %d of %d datacentres", n, nodes)
		}
		return nil
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
