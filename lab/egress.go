package lab

import (
	"context"
	"fmt"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// originEgress is what the object stores say they served for fill, without what
// belongs to regions and appliances that the lab has no more.
func (l *Lab) originEgress(ctx context.Context) (uint64, error) {
	i, err := l.need()
	if err != nil {
		return 0, err
	}
	sum, err := l.served(ctx, i.Topology.RegionNames())
	return uint64(max(sum+i.EgressOfOthers, 0)), err
}

// served sums what the object stores of regions served for fill, in bytes.
func (l *Lab) served(ctx context.Context, regions []string) (int64, error) {
	var sum int64
	for _, r := range regions {
		s, err := l.specOf(r, topology.RoleS3)
		if services.KindOf(err) == services.NotFound {
			continue // a region may be declared without one
		}
		if err != nil {
			return 0, err
		}
		n, err := l.metric(ctx, s, "s3_egress_bytes_total", `bucket="`+mediaBucket+`"`)
		if err != nil {
			return 0, fmt.Errorf("origin egress of %s cannot be read: %w", r, err)
		}
		sum += int64(n)
	}
	return sum, nil
}

// egressToKeep is what has to be added to the stores' counters once the topology
// is next: what stores that go have served, less what appliances that go have
// taken from any store. The rest is what the appliances that stay have taken,
// whichever store it came from.
func (l *Lab) egressToKeep(ctx context.Context, next topology.Topology) (int64, error) {
	i := l.current()
	if i == nil {
		return 0, nil // nothing was there
	}
	gone := goneRegions(i.Topology, next)
	stays := map[string]bool{}
	for _, inst := range next.Instances() {
		stays[inst.ID] = true
	}
	leaves := false
	for _, inst := range i.Topology.Instances() {
		leaves = leaves || inst.Role == topology.RoleOCA && !stays[inst.ID]
	}
	if !leaves && len(gone) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	served, err := l.served(ctx, gone)
	if err != nil {
		return 0, err
	}
	st, err := l.FillStatus(ctx)
	if err != nil {
		return 0, err
	}
	return served - takenByOthers(st.Appliances, stays), nil
}

// goneRegions are those of one topology that another has not.
func goneRegions(was, next topology.Topology) []string {
	var out []string
	for _, name := range was.RegionNames() {
		if _, ok := next.Region(name); !ok {
			out = append(out, name)
		}
	}
	return out
}

// takenByOthers sums what the appliances that do not stay took from the origin.
func takenByOthers(all []control.ApplianceFill, stays map[string]bool) int64 {
	var sum int64
	for _, a := range all {
		if !stays[a.Name] {
			sum += int64(a.CacheFillBytes)
		}
	}
	return sum
}
