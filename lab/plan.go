package lab

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Memory that a lab takes on the embedded runtime, measured on labs of one to
// six regions (Σ PSS of its processes): the daemon and the appliances' host, a
// region's host, and what an instance beyond the default adds.
const (
	memoryBase     = 45 << 20
	memoryRegion   = 50 << 20
	memoryInstance = 1 << 20
)

// PlanUp says what the first up of a lab would do; it touches nothing.
func PlanUp(name, on string, t topology.Topology) (control.Plan, error) {
	return planUp(name, on, t, t.Instances(), nil)
}

// PreviewUp says what an up would do to the lab of those paths as it is, whether
// there is one or not; it touches nothing and needs no daemon.
func PreviewUp(ctx context.Context, env Env, p Paths, on string, t topology.Topology) (plan control.Plan, err error) {
	r := control.UpRequest{Runtime: on, Topology: t}
	none := &Lab{paths: p}
	if !p.Exists() {
		return none.Plan(ctx, r)
	}
	l, err := look(ctx, env, p)
	if services.ReasonOf(err) == services.ReasonNoLab {
		return none.Plan(ctx, r)
	}
	if err != nil {
		return plan, err
	}
	defer func() { err = errors.Join(err, l.unlook()) }()
	return l.Plan(ctx, r)
}

// Plan implements control.Engine. It refuses what the up would refuse.
func (l *Lab) Plan(ctx context.Context, r control.UpRequest) (control.Plan, error) {
	if r.Runtime == "" {
		r.Runtime = EmbeddedRuntime
	}
	on, t := r.Runtime, r.Topology
	if err := l.takes(r); err != nil {
		return control.Plan{}, err
	}
	was := l.current()
	if was == nil {
		return PlanUp(l.paths.Name, on, t)
	}
	if err := l.servedBy(t); err != nil {
		return control.Plan{}, err
	}
	live, err := l.rt.List(ctx)
	if err != nil {
		return control.Plan{}, err
	}
	now := *was
	now.Topology = t
	p, err := planUp(l.paths.Name, on, t, now.instances(), live)
	if len(live) > len(p.Remove)+len(p.Renew) { // else nothing goes on as it is
		p.TimingKept = append(p.TimingKept, timingChanged(was.Topology.Timing, t.Timing)...)
	}
	return p, err
}

// planUp compares what a lab is to have, the topology's instances and those it was
// given since, with what is there.
func planUp(name, on string, t topology.Topology, wanted []topology.Instance, live []runtime.Instance) (control.Plan, error) {
	if err := t.Validate(); err != nil {
		return control.Plan{}, &services.Error{Op: "topology", Kind: services.Invalid, Err: err}
	}
	p := control.Plan{Name: name, Runtime: on, Regions: t.RegionNames(), Add: []string{}, Remove: []string{}, Renew: []string{}, TimingKept: []string{}}
	media, err := fixtures.MediaBytes()
	if err != nil {
		return p, err
	}
	running, unwanted := map[string]runtime.Spec{}, map[string]bool{}
	for _, x := range live {
		unwanted[x.Spec.ID] = true
		if x.State == runtime.Running {
			running[x.Spec.ID] = x.Spec
		}
	}
	for _, i := range wanted {
		delete(unwanted, i.ID)
		p.Budget.Instances++
		p.Budget.Ports += len(i.Ports)
		switch i.Role {
		case topology.RoleOCA:
			p.Budget.DiskBytes += min(media, int64(i.Appliance.Capacity))
		case topology.RoleS3:
			p.Budget.DiskBytes += media
		}
		if was, runs := running[i.ID]; !runs {
			p.Add = append(p.Add, i.ID)
		} else if redeclared(was, runtime.Spec{Instance: i}) {
			p.Renew = append(p.Renew, i.ID)
		}
	}
	for _, x := range live {
		if unwanted[x.Spec.ID] {
			p.Remove = append(p.Remove, x.Spec.ID)
		}
	}
	p.Budget.Processes = len(t.Regions) + 2
	usual := 0
	for _, n := range topology.DefaultServices(2) {
		usual += n
	}
	p.Budget.MemoryBytes = memoryBase + int64(len(t.Regions))*memoryRegion + int64(max(0, p.Budget.Instances-len(t.Regions)*usual))*memoryInstance
	if on == ContainersRuntime {
		containersBudget(&p.Budget, t)
	}
	p.Budget.FreeMemoryBytes = FreeMemory()
	return p, nil
}

// Memory that a container of flix's own takes beyond the page cache it shares
// with the others, measured on labs of three regions: one with one instance,
// and what each further instance packed into it adds.
const (
	memoryContainer = 26 << 20
	memoryPacked    = 3 << 20
)

// containersBudget counts containers instead of processes. A store is counted
// with its limit: that is what it may take.
func containersBudget(b *control.Budget, t topology.Topology) {
	b.MemoryBytes, b.Processes = memoryBase, 1
	packs := map[string]bool{}
	for _, r := range t.Regions {
		sizes := t.Containers.Profile.Sizes()
		if n := r.Services[topology.RoleKV]; n > 0 {
			sizes.Nodes = n
		}
		b.MemoryBytes += int64(sizes.Total(len(r.Zones)))
		b.MemoryBytes += memoryContainer // the agent
		b.Processes++
	}
	for _, i := range t.Instances() {
		id, add := containers.InContainer(t.Containers, i)
		switch {
		case add == 0: // a store: counted above
		case packs[id]:
			b.MemoryBytes += memoryPacked
			continue
		default:
			b.MemoryBytes += memoryContainer
		}
		packs[id] = true
		b.Processes++
	}
}

// FreeMemory is MemAvailable of /proc/meminfo in bytes, 0 where there is none.
func FreeMemory() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if v, ok := strings.CutPrefix(sc.Text(), "MemAvailable:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kb * 1024
		}
	}
	return 0
}
