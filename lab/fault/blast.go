package fault

import (
	"fmt"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Blast is whom a fault touches, told before it acts.
type Blast struct {
	// Instances it acts on, and Regions they are in. Of calls that fail or are
	// late they are those that are called, or the gateways for a path.
	Instances []string `json:"instances"`
	Regions   []string `json:"regions"`
	// Roles are what is left of each role it takes instances of.
	Roles []RoleLeft `json:"roles"`
	// Text says it in sentences.
	Text []string `json:"text"`
}

// RoleLeft is what a fault leaves of a role in a region.
type RoleLeft struct {
	Region string `json:"region"`
	Role   string `json:"role"`
	// Of instances that are declared, Now run and Left would.
	Of   int `json:"of"`
	Now  int `json:"now"`
	Left int `json:"left"`
}

// touched are the instances that a fault acts on.
func (f Fault) touched(v View) []string {
	e := f.Effect
	out := slices.Concat(e.Down, e.Restart, e.Frozen, e.Flush, e.Expired)
	if e.Disk != nil {
		out = append(out, e.Disk.Instances...)
	}
	if e.Clock != nil {
		out = append(out, e.Clock.Instances...)
	}
	if e.DNS != nil {
		out = append(out, e.DNS.Instances...)
	}
	if e.Call != nil {
		out = append(out, called(*e.Call, v)...)
	}
	for _, i := range v.Instances {
		if slices.Contains(e.Lost, i.Region) && i.Role != topology.RoleOCA || e.CPU != nil && slices.Contains(e.CPU.Hosts, i.Host()) {
			out = append(out, i.ID)
		}
	}
	if l := e.Link; l != nil {
		for _, s := range []Side{l.A, l.B} {
			out = append(out, s.Instances...)
			for _, i := range v.Instances {
				if s.Region != "" && len(s.Instances) == 0 && i.Region == s.Region {
					out = append(out, i.ID)
				}
			}
		}
	}
	slices.Sort(out)
	return append([]string{}, slices.Compact(out)...) // a list also when it is empty
}

// takes says whether a fault keeps an instance from its work: it is held down,
// silent, cut off from everybody, or nobody believes it.
func (f Fault) takes(i topology.Instance) bool {
	e := f.Effect
	return e.Holds(i) || slices.Contains(e.Frozen, i.ID) ||
		e.Link.severs() && e.Link.B.Any() && slices.Contains(e.Link.A.Instances, i.ID) ||
		e.DNS != nil && slices.Contains(e.DNS.Instances, i.ID) ||
		i.Role == topology.RoleGateway && slices.Contains(e.Expired, i.ID)
}

func blast(f Fault, v View) Blast {
	b := Blast{Instances: f.touched(v), Regions: []string{}, Roles: []RoleLeft{}, Text: []string{}}
	roles := map[[2]string]*RoleLeft{}
	var order [][2]string
	for _, i := range v.Instances {
		k := [2]string{i.Region, string(i.Role)}
		if roles[k] == nil {
			roles[k] = &RoleLeft{Region: i.Region, Role: string(i.Role)}
			order = append(order, k)
		}
		r := roles[k]
		r.Of++
		if v.up(i) {
			r.Now++
			if !f.takes(i) {
				r.Left++
			}
		}
		if slices.Contains(b.Instances, i.ID) && !slices.Contains(b.Regions, i.Region) {
			b.Regions = append(b.Regions, i.Region)
		}
	}
	for _, k := range order {
		if r := roles[k]; r.Left < r.Now {
			b.Roles = append(b.Roles, *r)
		}
	}
	b.tell(f, v)
	return b
}

// up says whether an instance runs and does its work.
func (v View) up(i topology.Instance) bool {
	return v.Running[i.ID] && !slices.ContainsFunc(v.Active, func(f Fault) bool { return f.takes(i) })
}

// tell puts the blast into sentences.
func (b *Blast) tell(f Fault, v View) {
	add := func(format string, args ...any) { b.Text = append(b.Text, fmt.Sprintf(format, args...)) }
	switch e, l := f.Effect, f.Effect.Link; {
	case len(e.Lost) > 0:
		add("the whole of %s is killed without a warning: %s; its appliances live on", strings.Join(e.Lost, ", "), services.Count(len(b.Instances), "instance"))
	case e.Call != nil:
		what := "are delayed by " + e.Call.Delay.String()
		if e.Call.Fail {
			what = "fail"
		}
		add("%g %% of the calls of %s %s, for %s", e.Call.Share*100, e.Call.Name, what, e.Call.Scope)
	case l != nil:
		to := f.To
		if to == "" {
			to = "everything else"
		}
		add("what passes between %s and %s: %s at its ends", f.Target, to, services.Count(len(b.Instances), "instance"))
		if f.isolates(l.A.Region) {
			add("%s is cut off: it serves nobody but those who are near it", l.A.Region)
		}
	default:
		add("%s: %s", services.Count(len(b.Instances), "instance"), shorten(b.Instances))
	}
	for _, r := range b.Roles {
		if r.Left == 0 && !slices.Contains(f.Effect.Lost, r.Region) {
			add("%s has no %s left (%d of %d run now)", r.Region, r.Role, r.Now, r.Of)
		}
	}
	if n := len(v.regionsLeft(f)); n < len(v.Topology.Regions) {
		add("regions that can serve viewers afterwards: %d of %d", n, len(v.Topology.Regions))
	}
}

func shorten(ids []string) string {
	const most = 8
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return strings.Join(ids, ", ")
}

// serving are the roles without any of which a region starts no play.
var serving = []topology.Role{
	topology.RoleRegistry, topology.RoleELB, topology.RoleGateway, topology.RoleSignup, topology.RoleDiscovery,
	topology.RolePlay, topology.RolePlayback, topology.RoleLicense,
}

// regionsLeft are the regions that can serve viewers under the active faults and
// one more: those that are whole, get viewers and are not cut off, as long as a
// DNS server anywhere tells the way to them.
func (v View) regionsLeft(f Fault) []string {
	if v.regionsWith(topology.RoleDNS, f) == 0 {
		return nil
	}
	var out []string
	for _, r := range v.Topology.RegionNames() {
		if v.Evacuated[r] || v.isolated(r, f) {
			continue
		}
		left := map[topology.Role]int{}
		for _, i := range v.Instances {
			if i.Region == r && v.up(i) && !f.takes(i) {
				left[i.Role]++
			}
		}
		if !slices.ContainsFunc(serving, func(role topology.Role) bool { return left[role] == 0 }) {
			out = append(out, r)
		}
	}
	return out
}

// isolates says whether a link fault cuts a whole region off from everything.
func (f Fault) isolates(region string) bool {
	l := f.Effect.Link
	return l.severs() && l.B.Any() && l.A.is(Side{Region: region})
}

// isolated says whether an active fault or one more does that.
func (v View) isolated(region string, f Fault) bool {
	return f.isolates(region) || slices.ContainsFunc(v.Active, func(a Fault) bool { return a.isolates(region) })
}

// conflicts refuses a fault on what is faulted already.
func (p *planner) conflicts() error {
	mine := p.f.claims(p.v.Instances)
	for _, f := range p.v.Active {
		for _, c := range f.claims(p.v.Instances) {
			if slices.Contains(mine, c) {
				return services.Errorf(services.Conflict, "%s is faulted already, by %s (%s)", c, f.ID, f).WithReason(ReasonFaulted).WithRemedy("wait until it lapses, or stop it: flix chaos stop %s", f.ID)
			}
		}
	}
	return nil
}

// ReasonFaulted is the reason of a refusal of a fault on what has one.
const ReasonFaulted = "already_faulted"

// runs refuses a fault on what is down by itself: there is nothing to break.
func (p *planner) runs() error {
	e := p.f.Effect
	if e.Link != nil || e.Call != nil {
		return nil
	}
	var down []string
	all := p.f.touched(p.v)
	for _, id := range all {
		if !p.v.Running[id] {
			down = append(down, id)
		}
	}
	if len(all) == 0 || len(down) < len(all) {
		return nil
	}
	return services.Errorf(services.Conflict, "%s does not run: there is nothing to break", p.r.Target).WithRemedy("flix lab status shows what runs; flix lab up starts it")
}

// reachable refuses what the runtime has no mechanism for.
func (p *planner) reachable() error {
	if p.v.Runtime != onContainers {
		return nil
	}
	e := p.f.Effect
	for _, id := range slices.Concat(e.Frozen, e.Flush) {
		if p.v.Stores[id] {
			return services.Errorf(services.Invalid, "%s: %s is a real store in a container of its own: its sockets are not flix's", p.kind.Name, id).WithRemedy("kill it instead: flix chaos run kill --target %s", id)
		}
	}
	return nil
}

// guard refuses a fault that leaves no region or breaks a quorum.
func guard(f Fault, b Blast, v View, force bool) error {
	before, after := len(v.regionsLeft(Fault{})), len(v.regionsLeft(f))
	if after == 0 && before > 0 {
		return services.Errorf(services.Conflict, "it leaves no region: %d of %d serve viewers now, %d − %d = 0 afterwards", before, len(v.Topology.Regions), before, before-after).
			WithReason(ReasonNoRegion).WithRemedy("leave one alone; --force does not help here")
	}
	if force {
		return nil
	}
	for _, r := range b.Roles {
		if err := quorum(r, f); err != nil {
			return err
		}
	}
	return errorsOf(second(topology.RoleKV, f, v), second(topology.RoleSQL, f, v))
}

// Reasons of refusals.
const (
	ReasonNoRegion = "no_region_left"
	ReasonQuorum   = "quorum_broken"
)

// quorum refuses to take what writes in a region need: a wide-column write asks
// for a majority of its region's nodes (LOCAL_QUORUM).
func quorum(r RoleLeft, f Fault) error {
	if need := r.Of/2 + 1; topology.Role(r.Role) == topology.RoleKV && r.Now >= need && r.Left < need && !slices.Contains(f.Effect.Lost, r.Region) {
		return services.Errorf(services.Conflict, "it breaks the quorum of %s in %s: %d of %d nodes run, the quorum is ⌊%d/2⌋+1 = %d, %d would be left", r.Role, r.Region, r.Now, r.Of, r.Of, need, r.Left).
			WithReason(ReasonQuorum).WithRemedy("add --force, or force: true to an experiment's step, if the region is to lose its writes")
	}
	return nil
}

// second refuses to take the second region that acknowledges a wide-column write
// that is meant for all, and a SQL commit.
func second(role topology.Role, f Fault, v View) error {
	before, after := v.regionsWith(role, Fault{}), v.regionsWith(role, f)
	need := min(2, len(v.Topology.Regions))
	if before < need || after >= need {
		return nil
	}
	if need == 1 {
		return services.Errorf(services.Conflict, "it breaks the writes: 1 of 1 regions has a %s, 1 is needed, 1 − 1 = 0 would be left", role).
			WithReason(ReasonQuorum).WithRemedy("add --force, or force: true to an experiment's step, if they are to fail")
	}
	return services.Errorf(services.Conflict, "it breaks the writes that a second region acknowledges: %d of %d regions have a %s, %d are needed, %d would be left", before, len(v.Topology.Regions), role, need, after).
		WithReason(ReasonQuorum).WithRemedy("add --force, or force: true to an experiment's step, if they are to fail")
}

// regionsWith counts the regions in which a role works and from which others get
// at it.
func (v View) regionsWith(role topology.Role, f Fault) int {
	have := map[string]bool{}
	for _, i := range v.Instances {
		if i.Role == role && v.up(i) && !f.takes(i) && !v.isolated(i.Region, f) {
			have[i.Region] = true
		}
	}
	return len(have)
}
