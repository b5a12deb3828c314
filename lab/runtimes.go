package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/runtime/embedded"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/topology"
)

// EmbeddedRuntime and ContainersRuntime are the names of the runtimes.
const (
	EmbeddedRuntime   = "embedded"
	ContainersRuntime = containers.Name
)

// newRuntime makes the runtime of that name over what the journal knows;
// declared tells how the lab wants its containers when one is made.
func newRuntime(ctx context.Context, env Env, p Paths, j *journal.Journal, name string, declared func() topology.Containers) (runtime.Runtime, error) {
	switch name {
	case EmbeddedRuntime, "":
		return embeddedRuntime(env, p, j), nil
	case ContainersRuntime:
		rt, err := containers.New(ctx, containers.Config{
			Lab: p.Name, Dir: p.Dir, Exe: env.Exe, Getenv: env.Getenv, Journal: j,
			Declared: declared,
		})
		if err != nil {
			return nil, err // and not a nil of its type
		}
		return rt, nil
	}
	return nil, services.Errorf(services.Invalid, "there is no runtime %q", name).WithRemedy("use %s or %s", EmbeddedRuntime, ContainersRuntime)
}

func embeddedRuntime(env Env, p Paths, j *journal.Journal) *embedded.Runtime {
	return embedded.New(embedded.Config{
		Dir: p.Dir, Sockets: p.Sockets, Exe: env.Exe, Env: env.Environ, Journal: j,
		Args: func(host, socket string) []string { return hostArgs(p, host, socket) },
	})
}

// containers is how the lab wants its containers.
func (l *Lab) containers() topology.Containers {
	if i := l.current(); i != nil {
		return i.Topology.Containers
	}
	return topology.Containers{}
}

// useRuntime makes the runtime of a new lab. One that is up keeps its own.
func (l *Lab) useRuntime(ctx context.Context, r control.UpRequest) error {
	if r.Runtime == "" {
		r.Runtime = EmbeddedRuntime
	}
	if err := l.takes(r); err != nil {
		return err
	}
	if l.rt == nil {
		rt, err := newRuntime(ctx, l.env, l.paths, l.journal, r.Runtime, func() topology.Containers {
			if l.current() == nil {
				return r.Topology.Containers // it is about to be the intent
			}
			return l.containers()
		})
		if err != nil {
			return err
		}
		l.rt = rt
	}
	if p, ok := l.rt.(interface{ Prepare(context.Context) error }); ok {
		return p.Prepare(ctx)
	}
	return nil
}

// takes refuses an up to what the runtime has not, or to what a lab that is up
// cannot become.
func (l *Lab) takes(r control.UpRequest) error {
	if r.Runtime == ContainersRuntime && r.Topology.BGP {
		return services.Errorf(services.Invalid, "the topology says bgp: true, which is not built for the containers runtime").WithRemedy("use --runtime embedded, or leave bgp out: the appliances then announce what is declared")
	}
	if i := l.current(); i != nil && l.rt != nil {
		if l.rt.Name() != r.Runtime {
			return services.Errorf(services.Conflict, "lab %s is up on the %s runtime", l.paths.Name, l.rt.Name()).
				WithRemedy("leave --runtime out to go on with it, or take it down first: flix lab down%s", nameFlag(l.paths.Name))
		}
		have, want := i.Topology.Containers, r.Topology.Containers
		if cmp.Or(have.Pack, topology.PackInstance) != cmp.Or(want.Pack, topology.PackInstance) || cmp.Or(have.Network, topology.BridgeNetwork) != cmp.Or(want.Network, topology.BridgeNetwork) {
			return services.Errorf(services.Conflict, "lab %s is up with --pack %s --network %s", l.paths.Name, cmp.Or(have.Pack, topology.PackInstance), cmp.Or(have.Network, topology.BridgeNetwork)).
				WithRemedy("keep both as they are, or take the lab down first: flix lab down%s", nameFlag(l.paths.Name))
		}
		if err := l.keepsStores(i.Topology, r); err != nil {
			return err
		}
	}
	if r.Runtime == EmbeddedRuntime {
		for _, reg := range r.Topology.Regions {
			if n := reg.Services[topology.RoleKV]; n > 1 {
				return services.Errorf(services.Invalid, "region %s declares %d kv nodes; the embedded runtime has one", reg.Name, n).WithRemedy("leave services.kv out, or use --runtime containers")
			}
		}
	}
	return nil
}

// keepsStores refuses an up that would change the stores' sizes, or how many
// nodes of kv a region has: limits are set when a container is made, and a node
// that joins a datacentre holds nothing of what the others have. On the host's
// network it refuses other regions, too, before anything is made of them.
func (l *Lab) keepsStores(have topology.Topology, r control.UpRequest) error {
	if r.Runtime != ContainersRuntime {
		return nil
	}
	down := "flix lab down" + nameFlag(l.paths.Name)
	if is, want := cmp.Or(have.Containers.Profile, topology.Small), cmp.Or(r.Topology.Containers.Profile, topology.Small); is != want {
		return services.Errorf(services.Conflict, "lab %s is up with --profile %s, not %s", l.paths.Name, is, want).
			WithRemedy("keep the profile, or take the lab down first: %s", down)
	}
	if was, want := slices.Sorted(slices.Values(have.RegionNames())), slices.Sorted(slices.Values(r.Topology.RegionNames())); have.Containers.Network == topology.HostNetwork && !slices.Equal(was, want) {
		return services.Errorf(services.Conflict, "lab %s is up with --network host and the regions %s, not %s: nodes of its kv join and leave by nodetool, which cannot tell them apart there", l.paths.Name, services.List(was), services.List(want)).
			WithRemedy("keep its regions, or take the lab down first (%s) and up with --network bridge", down)
	}
	for _, reg := range r.Topology.Regions {
		was, ok := have.Region(reg.Name)
		if n, m := max(was.Services[topology.RoleKV], 1), max(reg.Services[topology.RoleKV], 1); ok && n != m {
			return services.Errorf(services.Conflict, "region %s is up with %d kv nodes, not %d", reg.Name, n, m).
				WithRemedy("keep their number, or take the lab down first: %s", down)
		}
	}
	return nil
}

// storesTime bounds the start of the real stores: a Cassandra of several
// datacentres takes half a minute on two processors, and the rest of the lab
// starts beside it.
const storesTime = 5 * time.Minute

// awaitStores waits until every real store is in its registry, which means that
// it answers, and makes their schemas.
func (l *Lab) awaitStores(ctx context.Context, st *steps, specs []runtime.Spec, d diff) error {
	var stores []runtime.Spec
	for _, s := range specs {
		if s.Sidecar && !l.current().Stopped[s.ID] {
			stores = append(stores, s)
		}
	}
	regions := l.current().Topology.RegionNames()
	have := l.migrated()
	if len(stores) == 0 || len(d.start) == 0 && len(l.unseeded()) == 0 && slices.Equal(have, regions) {
		return nil
	}
	return st.do(ctx, "stores", func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, storesTime)
		defer cancel()
		if err := l.storesAnswer(ctx, stores, st.answering); err != nil {
			return "", err
		}
		if err := l.migrate(ctx, stores, have); err != nil {
			return "", err
		}
		if err := l.journal.Put(journal.Seed, schemaSeed, schemaData{regions}); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d stores answer and have their schemas", len(stores)), nil
	})
}

// storesAnswer waits until every one of the stores is in its region's registry,
// and tells of each.
func (l *Lab) storesAnswer(ctx context.Context, stores []runtime.Spec, told func(runtime.Spec, time.Duration)) error {
	began := time.Now()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		var still []runtime.Spec
		for _, s := range stores {
			if up, err := l.inRegistry(ctx, s); err != nil || !up {
				still = append(still, s)
				continue
			}
			told(s, time.Since(began))
		}
		if stores = still; len(stores) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(services.Errorf(services.Unavailable, "%s does not answer", stores[0].ID).WithRemedy("look at its log: flix lab logs %s", stores[0].ID), ctx.Err())
		case <-time.After(wait):
		}
	}
}

// schemaSeed is the journal's name for the stores' schemas, schemaData the
// regions they span.
const schemaSeed = "schemas"

type schemaData struct {
	Regions []string `json:"regions"`
}

// migrated lists the regions that the stores' schemas span; none when they
// were not made yet.
func (l *Lab) migrated() []string {
	var d schemaData
	if e, ok := l.journal.Get(journal.Seed, schemaSeed); ok {
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return nil // made again: that changes nothing
		}
	}
	return d.Regions
}

// inRegistry asks a region's registry for one instance.
func (l *Lab) inRegistry(ctx context.Context, s runtime.Spec) (bool, error) {
	registry, err := l.specOf(s.Region, topology.RoleRegistry)
	if err != nil {
		return false, err
	}
	missing, err := l.unregistered(ctx, registry, lookup.StatusUp, []string{s.ID})
	return len(missing) == 0, err
}

// PickRuntime settles which runtime an up takes, and says why where nobody
// named one. A lab that is up keeps its own.
func PickRuntime(ctx context.Context, env Env, p Paths, want string, t topology.Topology) (name, why string, err error) {
	switch want {
	case EmbeddedRuntime:
		return want, "", nil
	case ContainersRuntime:
		_, err := containers.Version(ctx, env.Getenv)
		return want, "", err
	case "auto":
	default:
		return "", "", services.Errorf(services.Invalid, "--runtime: %q is not a runtime", want).WithRemedy("use auto, %s or %s", EmbeddedRuntime, ContainersRuntime)
	}
	if i, err := readIntent(p.Dir); err == nil && i != nil && i.Runtime != "" {
		return i.Runtime, "the lab is up on it", nil
	}
	if why := containers.Missing(ctx, env.Getenv, env.Exe, t.Containers); why != "" {
		return EmbeddedRuntime, why, nil
	}
	plan, err := PlanUp(p.Name, ContainersRuntime, SizeStores(ContainersRuntime, t))
	if err != nil {
		return "", "", err
	}
	if b := plan.Budget; b.FreeMemoryBytes > 0 && b.MemoryBytes > b.FreeMemoryBytes {
		return EmbeddedRuntime, fmt.Sprintf("containers would take %d MiB of memory and %d are free", b.MemoryBytes>>20, b.FreeMemoryBytes>>20), nil
	}
	return ContainersRuntime, "a Docker engine answers and has every image", nil
}

// SizeStores gives each region the number of kv nodes that the profile of its
// stores has, unless it declares its own.
func SizeStores(on string, t topology.Topology) topology.Topology {
	if on != ContainersRuntime {
		return t
	}
	nodes := t.Containers.Profile.Sizes().Nodes
	t.Regions = slices.Clone(t.Regions)
	for k, r := range t.Regions {
		if _, declared := r.Services[topology.RoleKV]; declared || nodes == 1 {
			continue
		}
		services := maps.Clone(r.Services)
		if services == nil {
			services = map[topology.Role]int{}
		}
		services[topology.RoleKV] = nodes
		t.Regions[k].Services = services
	}
	return t
}
