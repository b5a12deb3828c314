package fault

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

func (p *planner) call() (*rpc.Call, error) {
	c := &rpc.Call{Name: p.r.Target, Region: p.params["region"]}
	if err := p.callee(c.Name); err != nil {
		return nil, err
	}
	if c.Region != "" {
		if _, ok := p.v.Topology.Region(c.Region); !ok {
			return nil, services.Errorf(services.NotFound, "there is no region %q", c.Region).WithRemedy("%s", p.v.existing([]string{sortRegion}))
		}
	}
	var err error
	if c.Share, err = p.share("percent"); err != nil {
		return nil, err
	}
	if c.Scope, err = p.scope(); err != nil {
		return nil, err
	}
	return c, nil
}

// scope reads for whom calls are hit. A list that is given and names nobody would
// mean everybody.
func (p *planner) scope() (s rpc.Scope, err error) {
	for _, x := range []string{"members", "devices", "countries", "isps", "clients"} {
		if p.params[x] != "" && len(p.list(x)) == 0 {
			return s, p.invalid(x, "a list of names")
		}
	}
	s = rpc.Scope{Members: p.list("members"), Devices: p.list("devices"), Countries: p.list("countries"), ISPs: p.list("isps")}
	for _, d := range s.Devices {
		if !slices.Contains(token.Devices(), strings.ToLower(d)) {
			return s, services.Errorf(services.NotFound, "there is no kind of device %q", d).WithRemedy("there are %s", strings.Join(token.Devices(), ", "))
		}
	}
	for _, c := range s.Countries {
		if !topology.IsCountry(strings.ToUpper(c)) {
			return s, p.invalid("countries", "a list of countries' codes of two letters, like US")
		}
	}
	for _, isp := range s.ISPs {
		if _, _, ok := p.v.Topology.ISP(isp); !ok {
			return s, services.Errorf(services.NotFound, "there is no ISP %q", isp).WithRemedy("%s", p.v.existing([]string{sortISP}))
		}
	}
	if p.params["viewers"] != "" {
		if s.Share, err = p.share("viewers"); err != nil {
			return s, err
		}
	}
	for _, n := range p.list("clients") {
		px, err := netip.ParsePrefix(n)
		if err != nil {
			a, aerr := netip.ParseAddr(n)
			if aerr != nil {
				return s, p.invalid("clients", "a list of networks or addresses")
			}
			px = netip.PrefixFrom(a, a.BitLen())
		}
		s.Clients = append(s.Clients, px)
	}
	return s, nil
}

// called are the instances that a call goes to from the region of its callers: a
// dependency's, or the gateways for a path.
func called(c rpc.Call, v View) []string {
	role := topology.RoleGateway
	if !strings.HasPrefix(c.Name, "/") {
		service, _, _ := strings.Cut(c.Name, "/")
		role = topology.Role(strings.ToLower(service))
	}
	var out []string
	for _, i := range v.Instances {
		if i.Role == role && (c.Region == "" || i.Region == c.Region) {
			out = append(out, i.ID)
		}
	}
	return out
}

// callee checks the name of a call: there is such a service, method or path.
func (p *planner) callee(name string) error {
	if strings.HasPrefix(name, "/") {
		return p.path(name)
	}
	service, method, one := strings.Cut(name, "/")
	methods, ok := p.v.Calls[strings.ToLower(service)]
	if !ok {
		return services.Errorf(services.NotFound, "no service is called %q by others", service).
			WithRemedy("there are %s, each with /METHOD; and paths at the gateway, like /play/start", strings.Join(slices.Sorted(maps.Keys(p.v.Calls)), ", "))
	}
	if one && !slices.ContainsFunc(methods, func(m string) bool { return strings.EqualFold(m, method) }) {
		return services.Errorf(services.NotFound, "%s has no method %q", service, method).WithRemedy("it has %s", strings.Join(methods, ", "))
	}
	return nil
}

// path checks that a gateway has a route for a path, or for one below it.
func (p *planner) path(name string) error {
	under := func(path, of string) bool {
		of = strings.TrimSuffix(of, "/")
		return path == of || strings.HasPrefix(path, of+"/")
	}
	low := strings.ToLower(name)
	if slices.ContainsFunc(p.v.Paths, func(have string) bool { return under(low, strings.ToLower(have)) || under(strings.ToLower(have), low) }) {
		return nil
	}
	paths := slices.Clone(p.v.Paths)
	slices.Sort(paths)
	return services.Errorf(services.NotFound, "the gateways have no route for %q", name).
		WithRemedy("they have %s, and what is below", strings.Join(slices.Compact(paths), ", "))
}

func planFailCall(p *planner) error {
	c, err := p.call()
	if err != nil {
		return err
	}
	c.Fail = true
	p.f.Effect.Call = c
	return nil
}

func planSlowCall(p *planner) error {
	c, err := p.call()
	if err != nil {
		return err
	}
	if c.Delay, err = p.duration("delay", time.Microsecond, longest); err != nil {
		return err
	}
	p.f.Effect.Call = c
	return nil
}
