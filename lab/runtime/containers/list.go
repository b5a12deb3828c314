package containers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// found is a container of the lab as the engine shows it.
type found struct {
	container       string // the engine's id
	name, id        string // its name; the instance, agent or pack
	host, role      string
	address         string
	specs           []runtime.Spec
	running, exited bool
	attached        bool   // to the lab's network; one that is not does not count as running
	status          string // the engine's words, e.g. "Exited (137) 3 seconds ago"
	image, imageID  string // as it was asked for, and what that was then
	sum             string // of the declaration it was made of
	started         time.Time
	pid             int
}

func (f found) store() bool { return isStore(topology.Role(f.role)) }

// filter narrows a list of containers.
type filter struct{ name, host string }

// containers lists the lab's.
func (r *Runtime) containers(ctx context.Context) ([]found, error) {
	return r.find(ctx, filter{})
}

func (r *Runtime) find(ctx context.Context, f filter) ([]found, error) {
	fs := make(client.Filters).Add("label", labelDir+"="+r.c.Dir)
	if f.host != "" {
		fs.Add("label", labelHost+"="+f.host)
	}
	if f.name != "" {
		fs.Add("name", "^/?"+f.name+"$")
	}
	list, err := r.docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: fs})
	if err != nil {
		return nil, fmt.Errorf("containers of the lab: %w", r.broken(err))
	}
	out := make([]found, 0, len(list.Items))
	for _, c := range list.Items {
		x := found{
			container: c.ID, id: c.Labels[labelID], address: c.Labels[labelAddress], sum: c.Labels[labelSum], host: c.Labels[labelHost], role: c.Labels[labelRole],
			running: c.State == container.StateRunning, exited: c.State == container.StateExited, status: c.Status,
			image: c.Image, imageID: c.ImageID,
		}
		if c.NetworkSettings != nil {
			on := c.NetworkSettings.Networks[r.networkName()]
			x.attached = on != nil && on.EndpointID != ""
		}
		x.running = x.running && (x.attached || r.hostNetwork())
		if len(c.Names) > 0 {
			x.name = strings.TrimPrefix(c.Names[0], "/")
		}
		if raw := c.Labels[labelSpecs]; raw != "" {
			if err := json.Unmarshal([]byte(raw), &x.specs); err != nil {
				return nil, fmt.Errorf("container %s: its label %s cannot be read: %w", x.name, labelSpecs, err)
			}
		} else if x.specs, err = r.specsIn(x.id); err != nil {
			return nil, fmt.Errorf("container %s: %w", x.name, err)
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b found) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// byName lists the lab's containers by their names.
func (r *Runtime) byName(ctx context.Context) (map[string]found, error) {
	cs, err := r.containers(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]found, len(cs))
	for _, c := range cs {
		out[c.name] = c
	}
	return out, nil
}

// seen remembers what an inspection of a container told, until its status
// changes.
type seen struct {
	mu   sync.Mutex
	last map[string]found
}

func newSeen() *seen { return &seen{last: map[string]found{}} }

func (s *seen) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.last)
}

// inspected completes what a list told with the times and numbers that only an
// inspection has.
func (r *Runtime) inspected(ctx context.Context, f found) (found, error) {
	r.seen.mu.Lock()
	was, ok := r.seen.last[f.container]
	r.seen.mu.Unlock()
	// "Up 5 minutes" grows older; "Up 2 seconds" after that is a restart.
	if ok && was.running == f.running && f.running && !young(f.status) {
		f.started, f.pid = was.started, was.pid
		return f, nil
	}
	in, err := r.docker.ContainerInspect(ctx, f.container, client.ContainerInspectOptions{})
	if err != nil {
		return f, err
	}
	if st := in.Container.State; st != nil {
		f.started, _ = time.Parse(time.RFC3339Nano, st.StartedAt) // zero if it never ran
		f.pid = st.Pid
	}
	r.seen.mu.Lock()
	r.seen.last[f.container] = f
	r.seen.mu.Unlock()
	return f, nil
}

// young says whether a status such as "Up 12 seconds" is of a container that
// may have started since it was last looked at.
func young(status string) bool {
	return !strings.HasPrefix(status, "Up ") || strings.Contains(status, "second")
}

// List implements runtime.Runtime.
func (r *Runtime) List(ctx context.Context) ([]runtime.Instance, error) {
	cs, err := r.containers(ctx)
	if err != nil {
		return nil, err
	}
	for k := range cs {
		if cs[k], err = r.inspected(ctx, cs[k]); err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("%s: %w", cs[k].id, r.broken(err))
		}
		if err != nil {
			cs[k].running, cs[k].specs = false, nil // it has just gone
		}
	}
	told := r.ask(ctx, cs)
	var out []runtime.Instance
	for _, c := range cs {
		if c.role == roleAgent {
			continue
		}
		for _, s := range c.specs {
			out = append(out, told.state(c, s))
		}
	}
	slices.SortFunc(out, func(a, b runtime.Instance) int { return strings.Compare(a.Spec.ID, b.Spec.ID) })
	return out, nil
}

// Processes implements runtime.Runtime: every process in a container of the
// lab, found by its control group.
func (r *Runtime) Processes(ctx context.Context) ([]int, error) {
	cs, err := r.containers(ctx)
	if err != nil {
		return nil, err
	}
	ours := map[string]bool{}
	for _, c := range cs {
		ours[c.container] = true
	}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	var pids []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended just now
		}
		if !ours[containerOf(string(b))] {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(f, "/")[2]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// containerOf finds the engine's id of a container in the text of a process's
// cgroup file: 64 hexadecimal digits in a path, of either version of cgroups.
// The last one counts: where the engine itself runs in a container, that comes
// before.
func containerOf(cgroup string) string {
	for _, line := range strings.Split(cgroup, "\n") {
		id := ""
		for _, part := range strings.FieldsFunc(line, func(c rune) bool { return !strings.ContainsRune("0123456789abcdef", c) }) {
			if len(part) == 64 {
				id = part
			}
		}
		if id != "" {
			return id
		}
	}
	return ""
}

// died returns an error with the last lines of its log when the container of
// an instance, agent or pack has ended; nil while it runs.
func (r *Runtime) died(ctx context.Context, id string) error {
	cs, err := r.find(ctx, filter{name: r.containerName(id)})
	if err != nil || len(cs) == 0 || cs[0].running {
		return nil
	}
	return r.obituary(ctx, cs[0])
}

// lastLines of a container that died are shown.
const lastLines = 12

// obituary tells how a container ended, and what it said last.
func (r *Runtime) obituary(ctx context.Context, c found) error {
	if in, err := r.docker.ContainerInspect(ctx, c.container, client.ContainerInspectOptions{}); err == nil && in.Container.State != nil && in.Container.State.OOMKilled && in.Container.HostConfig != nil {
		return services.Errorf(services.Exhausted, "%s was ended because it took more than its %d MiB of memory; its last lines:\n%s", c.id, in.Container.HostConfig.Memory>>20, r.tail(ctx, c, lastLines)).
			WithRemedy("run the command again; should it come again, take the lab down and up with a larger --profile; all of the log: docker logs %s", c.name)
	}
	return services.Errorf(services.Unavailable, "%s ended (%s); its last lines:\n%s", c.id, c.status, r.tail(ctx, c, lastLines)).
		WithRemedy("mend what they say, then run the command again: it goes on; all of the log: docker logs %s", c.name)
}

// tail returns the last lines of a container's log.
func (r *Runtime) tail(ctx context.Context, c found, lines int) string {
	out, err := r.docker.ContainerLogs(ctx, c.container, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return "(its log cannot be read: " + err.Error() + ")"
	}
	defer out.Close()
	var b strings.Builder
	pr, pw := io.Pipe()
	go func() { _, err := stdcopy.StdCopy(pw, pw, out); pw.CloseWithError(err) }()
	sc := bufio.NewScanner(pr)
	for sc.Scan() {
		fmt.Fprintf(&b, "  | %s\n", sc.Text())
	}
	_, _ = io.Copy(io.Discard, pr) // a line too long to show: let the writer end
	return strings.TrimRight(b.String(), "\n")
}

// Died returns an error about a container of the lab that has ended though an
// instance in it is expected to run; nil when there is none.
func (r *Runtime) Died(ctx context.Context, expected func(id string) bool) error {
	cs, err := r.containers(ctx)
	if err != nil {
		return err
	}
	for _, c := range cs {
		if c.running || !c.exited {
			continue
		}
		for _, s := range c.specs {
			if expected(s.ID) {
				return r.obituary(ctx, c)
			}
		}
	}
	return nil
}
