package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/topology"
)

// registryTime bounds one question to a registry.
const registryTime = 2 * time.Second

// registries declares the registries of a region, or of all for "".
func (l *Lab) registries(region string) ([]runtime.Spec, error) {
	i, err := l.need()
	if err != nil {
		return nil, err
	}
	if _, ok := i.Topology.Region(region); region != "" && !ok {
		return nil, noRegion(region, i.Topology)
	}
	var out []runtime.Spec
	for _, inst := range i.instances() {
		if inst.Role != topology.RoleRegistry || region != "" && inst.Region != region {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// explained asks one registry what it holds.
func (l *Lab) explained(ctx context.Context, s runtime.Spec) (registry.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, registryTime)
	defer cancel()
	var e registry.Explanation
	err := l.admin(ctx, s, http.MethodGet, "/registry/leases", nil, &e)
	return e, err
}

// RegistryList implements control.Engine. Of a region's registries the first
// that answers is listed: they hold the same, but for what is on its way.
func (l *Lab) RegistryList(ctx context.Context, region string) (control.RegistryList, error) {
	out := control.RegistryList{Instances: []control.RegistryEntry{}, Registries: []control.RegistryServer{}}
	specs, err := l.registries(region)
	if err != nil {
		return out, err
	}
	var errs []error
	listed := map[string]bool{}
	for _, s := range specs {
		r := control.RegistryServer{Name: s.ID, Region: s.Region, State: "running", Peers: []control.RegistryPeer{}}
		e, err := l.explained(ctx, s)
		if err != nil {
			r.State, r.Error = "down", err.Error()
			errs = append(errs, err)
			out.Registries = append(out.Registries, r)
			continue
		}
		r.Instances, r.SelfPreservation = len(e.Leases), control.RegistryPreservation(e.Preservation)
		for _, p := range e.Peers {
			r.Peers = append(r.Peers, control.RegistryPeer(p))
		}
		out.Registries = append(out.Registries, r)
		if !listed[s.Region] {
			listed[s.Region] = true
			for _, li := range e.Leases {
				out.Instances = append(out.Instances, entryOf(li, s))
			}
		}
	}
	if len(listed) == 0 && len(errs) > 0 {
		return out, &services.Error{Op: "registry", Kind: services.Unavailable, Msg: "no registry answers", Err: errors.Join(errs...), Remedy: "see what runs: flix lab status"}
	}
	return out, nil
}

func entryOf(i registry.LeaseInfo, s runtime.Spec) control.RegistryEntry {
	return control.RegistryEntry{
		ID: labID(i.ID), App: i.App, Region: s.Region, Zone: i.Zone, VIP: i.VIP, Address: i.Address, Status: i.Status, Reported: i.Reported,
		Override: i.Override, SilentMS: i.SilentMS, DurationMS: i.DurationMS, Expired: i.Expired, Registry: s.ID,
	}
}

// ownID is what the lab's own instances are called on the registry's wire.
var ownID = regexp.MustCompile(`^[^:/]+:[^:/]+:[a-z0-9]+:[0-9]+$`)

// labID is the name by which a person knows an instance: that of the lab for
// its own, or as it stands for a client that named itself.
func labID(wire string) string {
	if ownID.MatchString(wire) {
		return lookup.DecodeID(wire)
	}
	return wire
}

// wireID is the inverse of labID.
func wireID(name string) string {
	if strings.Count(name, "/") == 3 {
		return lookup.EncodeID(name)
	}
	return name
}

// holder is a registry that answers and, if it has one, the lease of an
// instance.
type holder struct {
	spec runtime.Spec
	why  registry.Why
}

// hold finds the registry that knows an instance: of the region its name
// begins with, or of any. It returns one that does not list it when none does.
func (l *Lab) hold(ctx context.Context, name string) (holder, error) {
	region := ""
	if first, _, ok := strings.Cut(name, "/"); ok {
		if i, err := l.need(); err != nil {
			return holder{}, err
		} else if _, ok := i.Topology.Region(first); ok {
			region = first
		}
	}
	specs, err := l.registries(region)
	if err != nil {
		return holder{}, err
	}
	var (
		errs []error
		best *holder
	)
	for _, s := range specs {
		h := holder{spec: s}
		short, cancel := context.WithTimeout(ctx, registryTime)
		err := l.admin(short, s, http.MethodGet, "/registry/why?id="+url.QueryEscape(wireID(name)), nil, &h.why)
		cancel()
		switch {
		case err != nil:
			errs = append(errs, err)
		case h.why.Listed:
			return h, nil
		case best == nil || best.why.Rule == "never_seen":
			best = &h
		}
	}
	if best == nil {
		return holder{}, &services.Error{Op: "registry", Kind: services.Unavailable, Msg: "no registry that could know " + name + " answers", Err: errors.Join(errs...), Remedy: "see what runs: flix lab status"}
	}
	return *best, nil
}

// unlisted is the error for an instance that no registry lists.
func (l *Lab) unlisted(ctx context.Context, name string, h holder) error {
	if inst, err := l.named(name); err == nil {
		if inst.Role == topology.RoleOCA {
			return services.Errorf(services.NotFound, "%s is an appliance: it reports to cache control and is in no registry", name).WithRemedy("flix fill status shows it")
		}
		return services.Errorf(services.NotFound, "the registry of %s does not list %s: %s", h.spec.Region, name, strings.Join(h.why.Because, "; ")).WithRemedy("flix registry why %s", name)
	}
	e := services.Errorf(services.NotFound, "no registry lists an instance %q", name)
	if near := l.near(ctx, name); len(near) > 0 {
		return e.WithRemedy("did you mean %s?", strings.Join(near, ", "))
	}
	return e.WithRemedy("list them: flix registry ls")
}

// near lists instances whose names are like one that is not there.
func (l *Lab) near(ctx context.Context, name string) []string {
	all, err := l.RegistryList(ctx, "")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range all.Instances {
		if name != "" && (strings.Contains(e.ID, name) || strings.EqualFold(e.App, name)) {
			out = append(out, e.ID)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), 5)]
}

// RegistryRecord implements control.Engine.
func (l *Lab) RegistryRecord(ctx context.Context, name string) (control.RegistryRecord, error) {
	h, err := l.hold(ctx, name)
	if err != nil {
		return nil, err
	}
	if !h.why.Listed {
		return nil, l.unlisted(ctx, name, h)
	}
	var doc struct {
		Instance control.RegistryRecord `json:"instance"`
	}
	err = l.rest(ctx, h, http.MethodGet, "", &doc)
	return doc.Instance, err
}

// rest calls the registry's own API about an instance.
func (l *Lab) rest(ctx context.Context, h holder, method, more string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, registryTime)
	defer cancel()
	target := "http://" + h.spec.Addr(topology.PortHTTP) + "/eureka/v2/apps/" + url.PathEscape(h.why.App) + "/" + url.PathEscape(h.why.ID) + more
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", eureka.JSON)
	return l.remote.json(req, h.spec.ID, out)
}

// RegistryWhy implements control.Engine.
func (l *Lab) RegistryWhy(ctx context.Context, name string) (control.RegistryWhy, error) {
	state := l.stateOf(ctx, name)
	inst, err := l.named(name)
	ours := err == nil
	h, err := l.hold(ctx, name)
	if err != nil {
		if !ours || services.KindOf(err) != services.Unavailable {
			return control.RegistryWhy{}, err
		}
		return control.RegistryWhy{
			ID: name, Region: inst.Region, Status: lookup.StatusUnknown, State: state, Rule: "region_down",
			Because: []string{"no registry of " + inst.Region + " answers, so nothing of it is given work: " + err.Error()}, Remedy: "flix lab status",
		}, nil
	}
	if !ours && !h.why.Listed && h.why.Rule == "never_seen" {
		return control.RegistryWhy{}, l.unlisted(ctx, name, h)
	}
	return h.explain(name, state, ours && inst.Role == topology.RoleOCA), nil
}

// explain says what a registry knows of an instance that the lab has in a state.
func (h holder) explain(name, state string, appliance bool) control.RegistryWhy {
	w := control.RegistryWhy{
		ID: name, App: h.why.App, Region: h.spec.Region, Listed: h.why.Listed, Up: h.why.Up, Status: h.why.Status, State: state, Rule: h.why.Rule,
		Because: h.why.Because, Remedy: h.why.Remedy, LeftAt: h.why.LeftAt, HeardAt: h.why.HeardAt, Registry: h.spec.ID,
	}
	if h.why.Lease != nil {
		e := entryOf(*h.why.Lease, h.spec)
		w.Entry = &e
	}
	switch {
	case appliance:
		w.Rule, w.Remedy = "not_registered", "flix fill status shows it"
		w.Because = []string{"it is an appliance: appliances report to cache control and are in no registry"}
	case state != "" && state != string(runtime.Running):
		w.Because = append(w.Because, fmt.Sprintf("the lab has it as %s", state))
		if !w.Listed {
			w.Remedy = "flix lab start " + name
		}
	}
	return w
}

// stateOf is an instance's state as the runtime has it, or "".
func (l *Lab) stateOf(ctx context.Context, name string) string {
	list, err := l.rt.List(ctx)
	if err != nil {
		return ""
	}
	for _, i := range list {
		if i.Spec.ID == name {
			return string(i.State)
		}
	}
	return ""
}

// RegistryChange implements control.Engine: an operator's word on one
// instance. Every registry of the region hears of it.
func (l *Lab) RegistryChange(ctx context.Context, r control.RegistryChange) (control.RegistryWhy, error) {
	status := strings.ToUpper(r.Status)
	clear, evict := strings.EqualFold(r.Status, "clear"), strings.EqualFold(r.Status, "evict")
	if !clear && !evict && eureka.ParseStatus(status) == eureka.StatusUnknown {
		return control.RegistryWhy{}, services.Errorf(services.Invalid, "%q is no status", r.Status).WithRemedy("use one of UP, OUT_OF_SERVICE, DOWN, STARTING, or clear")
	}
	h, err := l.hold(ctx, r.Instance)
	if err != nil {
		return control.RegistryWhy{}, err
	}
	if !h.why.Listed {
		return control.RegistryWhy{}, l.unlisted(ctx, r.Instance, h)
	}
	switch {
	case clear:
		err = l.rest(ctx, h, http.MethodDelete, "/status", nil)
		l.told(err, "registry.clear", r.Instance, "its status is its own again")
	case evict:
		return l.evict(ctx, r.Instance, h)
	default:
		err = l.rest(ctx, h, http.MethodPut, "/status?value="+status, nil)
		l.told(err, "registry.status", r.Instance, "its status is set to "+status)
	}
	if err != nil {
		return control.RegistryWhy{}, err
	}
	return l.RegistryWhy(ctx, r.Instance)
}

// evict ends an instance's lease and says how it left: one that is alive may be
// back before it could be asked for.
func (l *Lab) evict(ctx context.Context, name string, h holder) (control.RegistryWhy, error) {
	var gone registry.Why
	if err := l.admin(ctx, h.spec, http.MethodPost, "/registry/evict", registry.EvictRequest{App: h.why.App, ID: h.why.ID}, &gone); err != nil {
		return control.RegistryWhy{}, err
	}
	l.told(nil, "registry.evict", name, "evicted from the registry by hand")
	h.why = gone
	return h.explain(name, l.stateOf(ctx, name), false), nil
}

func (l *Lab) told(err error, kind, subject, text string) {
	if err == nil {
		l.log.Add(kind, subject, text, nil)
	}
}

// RegistryPreserve implements control.Engine: it sets self-preservation of a
// region's registries, or of all, for one application or all.
func (l *Lab) RegistryPreserve(ctx context.Context, r control.RegistryPreserve) (control.RegistryList, error) {
	if !slices.Contains([]string{"on", "off", "auto"}, r.Mode) {
		return control.RegistryList{}, services.Errorf(services.Invalid, "%q is none of on, off, auto", r.Mode)
	}
	specs, err := l.registries(r.Region)
	if err != nil {
		return control.RegistryList{}, err
	}
	name, value := "registry.selfPreservation", r.Mode
	if r.App != "" {
		name += "." + strings.ToLower(r.App)
	}
	if r.Mode == "auto" {
		value = "" // as if nobody had said anything
	}
	var regions []string
	for _, s := range specs {
		if !slices.Contains(regions, s.Region) {
			regions = append(regions, s.Region)
		}
	}
	var errs []error
	for _, region := range regions {
		errs = append(errs, l.setProperty(ctx, region, topology.RoleRegistry, name, value))
	}
	if err := errors.Join(errs...); err != nil {
		return control.RegistryList{}, err
	}
	return l.RegistryList(ctx, r.Region)
}
