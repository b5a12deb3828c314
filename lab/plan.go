package lab

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/fixtures"
	"github.com/flix-lab/flix/lab/control"
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
func PlanUp(name string, t topology.Topology, running []string) (control.Plan, error) {
	if err := t.Validate(); err != nil {
		return control.Plan{}, &services.Error{Op: "topology", Kind: services.Invalid, Err: err}
	}
	p := control.Plan{Name: name, Runtime: "embedded", Regions: t.RegionNames(), Add: []string{}, Remove: []string{}}
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
	p.Budget.FreeMemoryBytes = FreeMemory()
	return p, nil
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
