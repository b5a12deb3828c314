package lab

import (
	"context"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/gateway"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// Filters implements control.Engine.
func (l *Lab) Filters(ctx context.Context, region string) (control.Filters, error) {
	out := control.Filters{Filters: []control.Filter{}}
	specs, got, errs, err := askGateways[[]gateway.FilterStatus](ctx, l, region, "/filters")
	if err != nil {
		return out, err
	}
	at := map[string]int{}
	for k := range specs {
		if errs[k] != nil {
			out.Unreachable = append(out.Unreachable, specs[k].ID)
			continue
		}
		for _, f := range got[k] {
			n, ok := at[f.Name]
			if !ok {
				n = len(out.Filters)
				at[f.Name] = n
				first := f
				first.Enabled, first.InFlight, first.Runs, first.Errors, first.Rejected, first.MeanUS = false, 0, 0, 0, 0, 0
				out.Filters = append(out.Filters, control.Filter{FilterStatus: first})
			}
			addFilter(&out.Filters[n], f)
		}
	}
	if len(out.Filters) == 0 {
		return out, services.Errorf(services.Unavailable, "no gateway answers").WithRemedy("see what runs: flix lab status -o wide")
	}
	return out, nil
}

// addFilter adds one gateway's figures of a filter.
func addFilter(to *control.Filter, f gateway.FilterStatus) {
	to.Gateways++
	if f.Enabled {
		to.EnabledOn++
	}
	to.Enabled = to.EnabledOn == to.Gateways
	if runs := to.Runs + f.Runs; runs > 0 {
		to.MeanUS = (to.MeanUS*float64(to.Runs) + f.MeanUS*float64(f.Runs)) / float64(runs)
	}
	to.InFlight += f.InFlight
	to.Runs += f.Runs
	to.Errors += f.Errors
	to.Rejected += f.Rejected
}

// ChangeFilter implements control.Engine: what is set holds for gateways that
// start later too.
func (l *Lab) ChangeFilter(ctx context.Context, r control.FilterChange) (control.Filters, error) {
	end, err := l.begin(ctx, "gateway filters")
	if err != nil {
		return control.Filters{}, err
	}
	defer end()
	i, err := l.need()
	if err != nil {
		return control.Filters{}, err
	}
	regions := i.Topology.RegionNames()
	if r.Region != "" {
		if _, ok := i.Topology.Region(r.Region); !ok {
			return control.Filters{}, noRegion(r.Region, i.Topology)
		}
		regions = []string{r.Region}
	}
	if len(r.Options) == 0 {
		return control.Filters{}, services.Errorf(services.Invalid, "no option of filter %s is named", r.Filter)
	}
	for option, value := range r.Options {
		if err := gateway.CheckProperty(gateway.FilterProperty(r.Filter, option), value); err != nil {
			return control.Filters{}, services.Wrap("filter "+r.Filter+": "+option, err)
		}
	}
	if err := l.changeIntent(func(i *intent) {
		for _, region := range regions {
			for option, value := range r.Options {
				i.setProperty(region, topology.RoleGateway, gateway.FilterProperty(r.Filter, option), value)
			}
		}
	}); err != nil {
		return control.Filters{}, err
	}
	for option := range r.Options {
		l.tell(ctx, gateway.FilterProperty(r.Filter, option))
	}
	l.log.Add("gateway.filter", r.Filter, "filter "+r.Filter+" is set", map[string]any{"options": r.Options, "regions": regions})
	return l.Filters(ctx, r.Region)
}

// maxDebug bounds how long a debug token is good.
const maxDebug = 24 * time.Hour

// DebugToken implements control.Engine.
func (l *Lab) DebugToken(_ context.Context, r control.DebugRequest) (control.DebugToken, error) {
	i, err := l.need()
	if err != nil {
		return control.DebugToken{}, err
	}
	ttl := time.Duration(r.ForMS * float64(time.Millisecond))
	if ttl <= 0 || ttl > maxDebug {
		return control.DebugToken{}, services.Errorf(services.Invalid, "--for: %s is not between 0 and %s", ttl, maxDebug).WithRemedy("write it like 10m")
	}
	to := ""
	switch {
	case r.Instance != "" && r.VIP != "":
		return control.DebugToken{}, services.Errorf(services.Invalid, "a token sends requests to an instance or a VIP, not both")
	case r.Instance != "":
		if !slices.ContainsFunc(i.instances(), func(x topology.Instance) bool { return x.ID == r.Instance }) {
			return control.DebugToken{}, services.Errorf(services.NotFound, "there is no instance %q", r.Instance).WithRemedy("see them all: flix lab status -o wide")
		}
		to = gateway.ToInstance(r.Instance)
	case r.VIP != "":
		to = gateway.ToVIP(r.VIP)
	}
	l.mu.Lock()
	key := l.secret.key
	l.mu.Unlock()
	now := time.Now()
	out := control.DebugToken{
		Header: gateway.DebugHeader, Token: key.Sign(token.Debug, token.Claims{Session: to}, now, ttl), Expires: now.Add(ttl).UTC().Truncate(time.Second),
		Gateways: map[string]string{},
	}
	if r.Member != "" {
		out.MemberToken = key.Sign(token.Member, token.Claims{Member: r.Member, Plan: "premium", Country: i.Topology.Regions[0].Country, Device: "web", MaxHeight: 1080}, now, ttl)
	}
	specs, err := l.gateways("")
	if err != nil {
		return out, err
	}
	w := l.world(i, mustSpecs(l, i))
	for _, s := range specs {
		out.Gateways[s.ID] = "http://" + endpoint(w, s, topology.PortHTTP)
	}
	return out, nil
}
