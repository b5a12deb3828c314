package fault

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Request asks for a fault.
type Request struct {
	Kind   string            `json:"kind"`
	Target string            `json:"target"`
	To     string            `json:"to,omitempty"`
	Params map[string]string `json:"params,omitempty"`
	// TTL is how long it lasts; 0 is DefaultTTL. Forever lasts until stopped.
	TTL     time.Duration `json:"ttl,omitempty"`
	Forever bool          `json:"forever,omitempty"`
	// Force accepts a broken quorum, never the loss of every region.
	Force bool   `json:"force,omitempty"`
	By    string `json:"by,omitempty"`
	// Beside are faults that a dry run takes to be in force, too, the earliest
	// first.
	Beside []Request `json:"beside,omitempty"`
}

// Times to live.
const (
	DefaultTTL = 30 * time.Second
	MaxTTL     = 24 * time.Hour
)

// View is the lab as a plan sees it.
type View struct {
	Topology  topology.Topology
	Instances []topology.Instance
	// Running says which of them run.
	Running map[string]bool
	// Active faults.
	Active []Fault
	// Evacuated says which regions get no viewers.
	Evacuated map[string]bool
	// Calls are the methods of each service that others call, Paths the prefixes
	// and paths that the gateways have a route for.
	Calls map[string][]string
	Paths []string
	// Runtime is "embedded" or "containers"; Stores says which instances are
	// real stores there.
	Runtime string
	Stores  map[string]bool
	Now     time.Time
}

// planner makes one fault.
type planner struct {
	v      View
	kind   Kind
	r      Request
	target target
	to     *target
	params map[string]string
	f      Fault
}

// Plan makes the fault that a request asks for, and says whom it touches. It
// fails with NotFound for a kind or target that does not exist, Invalid for a
// parameter, Conflict where something is faulted or down already, or where the
// fault would break a quorum or leave no region.
func Plan(id string, r Request, v View) (Fault, Blast, error) {
	k, err := KindOf(r.Kind)
	if err != nil {
		return Fault{}, Blast{}, err
	}
	for n, other := range r.Beside {
		f, _, err := Plan(fmt.Sprintf("%s-beside-%d", id, n), other, v)
		if err != nil {
			return Fault{}, Blast{}, err
		}
		if f.Effect.Lasting() {
			v.Active = append(slices.Clone(v.Active), f)
		}
	}
	p := &planner{v: v, kind: k, r: r}
	if err := p.read(); err != nil {
		return Fault{}, Blast{}, err
	}
	p.f = Fault{ID: id, Kind: k.Name, Target: r.Target, To: r.To, Params: p.params, Began: v.Now.UTC(), By: r.By}
	if k.Reverts && !r.Forever {
		ttl := r.TTL
		if ttl == 0 {
			ttl = DefaultTTL
		}
		p.f.Until = v.Now.Add(ttl).UTC()
	}
	if err := k.plan(p); err != nil {
		return Fault{}, Blast{}, err
	}
	if c := p.f.Effect.Call; c != nil {
		c.ID, c.Until = id, p.f.Until
	}
	b := blast(p.f, v)
	if err := errorsOf(p.reachable(), p.conflicts(), p.runs(), guard(p.f, b, v, r.Force)); err != nil {
		return p.f, b, err
	}
	return p.f, b, nil
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// read checks target, parameters and time to live.
func (p *planner) read() (err error) {
	r := p.r
	if !slices.Contains(p.kind.Runtimes, p.v.Runtime) {
		return services.Errorf(services.Invalid, "%s does not work on the %s runtime", p.kind.Name, p.v.Runtime).WithRemedy("it works on %s: what it needs is in flix's own process there", strings.Join(p.kind.Runtimes, ", "))
	}
	if r.Target == "" {
		return services.Errorf(services.Invalid, "%s needs a target", p.kind.Name).WithRemedy("%s", p.targets())
	}
	if !slices.Contains(p.kind.Targets, sortCall) {
		if p.target, err = p.v.resolve(r.Target, p.kind.Targets); err != nil {
			return err
		}
	}
	if r.To != "" {
		if !p.kind.To {
			return services.Errorf(services.Invalid, "%s has one target, no other end", p.kind.Name).WithRemedy("leave --to %s out", r.To)
		}
		to, err := p.v.resolve(r.To, p.kind.Targets)
		if err != nil {
			return err
		}
		if to.text == p.target.text {
			return services.Errorf(services.Invalid, "nothing lies between %s and itself", r.Target).WithRemedy("name another end, or none for everything else")
		}
		p.to = &to
	}
	if r.TTL < 0 || r.TTL > MaxTTL {
		return services.Errorf(services.Invalid, "--ttl: %s is not between 0 and %s", r.TTL, MaxTTL).WithRemedy("write it like 30s")
	}
	if !p.kind.Reverts && (r.TTL > 0 || r.Forever) {
		return services.Errorf(services.Invalid, "%s is over at once: there is nothing to revert", p.kind.Name).WithRemedy("leave --ttl out")
	}
	return p.readParams()
}

func (p *planner) targets() string {
	if slices.Contains(p.kind.Targets, sortCall) {
		return "name a call by --target: a service (license), a method of it (license/Issue), or a path at the gateway (/play/start)"
	}
	return "name one by --target; " + p.v.existing(p.kind.Targets)
}

func (p *planner) readParams() error {
	p.params = map[string]string{}
	var names []string
	for _, x := range p.kind.Params {
		names = append(names, x.Name)
		if x.Default != "" {
			p.params[x.Name] = x.Default
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.r.Params)) {
		if !slices.Contains(names, name) {
			e := services.Errorf(services.Invalid, "%s has no parameter %q", p.kind.Name, name)
			if len(names) == 0 {
				return e.WithRemedy("it has none")
			}
			return e.WithRemedy("it has %s", strings.Join(names, ", "))
		}
		p.params[name] = p.r.Params[name]
	}
	return nil
}

func (p *planner) invalid(name, what string) error {
	var help string
	for _, x := range p.kind.Params {
		if x.Name == name {
			help = x.Help
		}
	}
	return services.Errorf(services.Invalid, "%s: %s=%q is not %s", p.kind.Name, name, p.params[name], what).WithRemedy("%s: %s", name, help)
}

func (p *planner) duration(name string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(p.params[name])
	if err != nil || d < least || d > most {
		return 0, p.invalid(name, "a duration with its unit, like 200ms, between "+least.String()+" and "+most.String())
	}
	return d, nil
}

// share reads a percentage as 0 to 1.
func (p *planner) share(name string) (float64, error) {
	f, err := strconv.ParseFloat(strings.TrimSuffix(p.params[name], "%"), 64)
	if err != nil || !(f > 0 && f <= 100) {
		return 0, p.invalid(name, "a percentage above 0, at most 100")
	}
	return f / 100, nil
}

func (p *planner) list(name string) []string {
	return strings.FieldsFunc(p.params[name], func(r rune) bool { return r == '|' || r == ',' })
}

func planKill(p *planner) error {
	if p.target.sort == sortRegion {
		p.f.Effect.Lost = []string{p.target.region}
		return nil
	}
	p.f.Effect.Down = p.target.ids()
	return nil
}

func planStop(p *planner) error {
	p.f.Effect.Down, p.f.Effect.Orderly = p.target.ids(), true
	return nil
}

func planPause(p *planner) error {
	p.f.Effect.Frozen = p.target.ids()
	return nil
}

func planRestart(p *planner) error {
	p.f.Effect.Restart = p.target.ids()
	return nil
}

// planRole kills a role of a region.
func planRole(role topology.Role) func(*planner) error {
	return func(p *planner) error {
		for _, i := range p.target.instances {
			if i.Role == role {
				p.f.Effect.Down = append(p.f.Effect.Down, i.ID)
			}
		}
		if len(p.f.Effect.Down) == 0 {
			return services.Errorf(services.NotFound, "%s has no %s", p.r.Target, role).WithRemedy("name a region that has one, or the instance itself")
		}
		return nil
	}
}

func planStore(p *planner) error {
	if p.target.sort == sortInstance { // it says itself which it is
		p.params["store"] = string(p.target.instances[0].Role)
	}
	if !slices.Contains([]string{"kv", "sql", "search", "s3", "evcache"}, p.params["store"]) {
		return p.invalid("store", "a store")
	}
	return planRole(topology.Role(p.params["store"]))(p)
}

func (p *planner) link(set func(*Link) error) error {
	l := &Link{A: p.target.end()}
	if p.to != nil {
		l.B = p.to.end()
	}
	if err := set(l); err != nil {
		return err
	}
	p.f.Effect.Link = l
	return nil
}

// longest bounds a delay.
const longest = time.Minute

func planLatency(p *planner) error {
	return p.link(func(l *Link) (err error) {
		if l.Delay, err = p.duration("delay", time.Microsecond, longest); err != nil {
			return err
		}
		l.Jitter, err = p.duration("jitter", 0, longest)
		return err
	})
}

func planJitter(p *planner) error {
	return p.link(func(l *Link) (err error) {
		// Half of it always and half of it at random: never less than without.
		d, err := p.duration("jitter", time.Microsecond, longest)
		l.Delay, l.Jitter = d/2, d/2
		return err
	})
}

func planLoss(p *planner) error {
	return p.link(func(l *Link) (err error) { l.Loss, err = p.share("percent"); return err })
}

func planBandwidth(p *planner) error {
	return p.link(func(l *Link) (err error) {
		l.Rate, err = topology.ParseRate(p.params["rate"])
		if err != nil || l.Rate <= 0 {
			return p.invalid("rate", "a rate like 1Mbit")
		}
		return nil
	})
}

func planReset(p *planner) error {
	return p.link(func(l *Link) (err error) { l.Reset, err = p.share("percent"); return err })
}

func planBlackhole(p *planner) error {
	return p.link(func(l *Link) error { l.Hole = true; return nil })
}

func planPartition(p *planner) error {
	return p.link(func(l *Link) (err error) {
		l.Cut = true
		if l.OneWay, err = strconv.ParseBool(p.params["one_way"]); err != nil {
			return p.invalid("one_way", "true or false")
		}
		return nil
	})
}

func planDiskFull(p *planner) error {
	p.f.Effect.Disk = &Disk{Instances: p.target.ids(), Full: true}
	return nil
}

func planDiskSlow(p *planner) error {
	d, err := p.duration("delay", time.Microsecond, longest)
	if err != nil {
		return err
	}
	p.f.Effect.Disk = &Disk{Instances: p.target.ids(), Delay: d}
	return nil
}

// among are the target's instances of some roles.
func (p *planner) among(roles ...topology.Role) ([]string, error) {
	var out []string
	for _, i := range p.target.instances {
		if slices.Contains(roles, i.Role) {
			out = append(out, i.ID)
		}
	}
	if len(out) == 0 {
		return nil, services.Errorf(services.Invalid, "%s: nothing of %s has what it is about", p.kind.Name, p.r.Target).WithRemedy("it is about %s", services.List(roles))
	}
	return out, nil
}

func planFlush(p *planner) (err error) {
	p.f.Effect.Flush, err = p.among(topology.RoleEVCache)
	return err
}

func planClock(p *planner) error {
	ids, err := p.among(topology.RoleKV, topology.RoleLicense, topology.RoleOCA)
	if err != nil {
		return err
	}
	d, err := p.duration("offset", -MaxTTL, MaxTTL)
	if err != nil || d == 0 {
		return p.invalid("offset", "a duration other than 0, at most a day")
	}
	p.f.Effect.Clock = &Clock{Instances: ids, Offset: d}
	return nil
}

func planCPU(p *planner) error {
	n, err := strconv.Atoi(p.params["cores"])
	if err != nil || n < 1 || n > 64 {
		return p.invalid("cores", "a number from 1 to 64")
	}
	p.f.Effect.CPU = &CPU{Hosts: []string{p.target.region}, Cores: n}
	return nil
}

func planDNS(p *planner) error {
	ids, err := p.among(topology.RoleDNS)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"servfail", "refuse", "drop"}, p.params["mode"]) {
		return p.invalid("mode", "servfail, refuse or drop")
	}
	p.f.Effect.DNS = &DNS{Instances: ids, Mode: p.params["mode"]}
	return nil
}

func planCertificate(p *planner) (err error) {
	p.f.Effect.Expired, err = p.among(topology.RoleGateway, topology.RoleOCA)
	return err
}
