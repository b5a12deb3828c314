package lab

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/control"
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

// PlanUp says what an up would do to a lab in which the named instances run;
// it touches nothing.
func PlanUp(name, on string, t topology.Topology, running []string) (control.Plan, error) {
	if err := t.Validate(); err != nil {
		return control.Plan{}, &services.Error{Op: "topology", Kind: services.Invalid, Err: err}
	}
	p := control.Plan{Name: name, Runtime: on, Regions: t.RegionNames(), Add: []string{}, Remove: []string{}}
	wanted := map[string]bool{}
	media, err := fixtures.MediaBytes()
	if err != nil {
		return p, err
	}
	for _, i := range t.Instances() {
		wanted[i.ID] = true
		p.Budget.Instances++
		p.Budget.Ports += len(i.Ports)
		switch i.Role {
		case topology.RoleOCA:
			p.Budget.DiskBytes += min(media, int64(i.Appliance.Capacity))
		case topology.RoleS3:
			p.Budget.DiskBytes += media
		}
		if !slices.Contains(running, i.ID) {
			p.Add = append(p.Add, i.ID)
		}
	}
	for _, id := range running {
		if !wanted[id] {
			p.Remove = append(p.Remove, id)
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
