package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Name of the runtime.
const Name = "containers"

// Config of the containers runtime.
type Config struct {
	// Lab is the lab's name, Dir its folder.
	Lab, Dir string
	// Exe is the flix executable that the lab's image is made of.
	Exe string
	// Getenv reads the environment; DOCKER_HOST says where the engine is.
	Getenv func(string) string
	// Journal records every resource before it is made.
	Journal *journal.Journal
	// Declared is how the lab wants its containers.
	Declared func() topology.Containers
}

// Runtime is the daemon's side: it makes containers and tells those of flix's
// own what to run.
type Runtime struct {
	c      Config
	prefix string
	docker *client.Client
	seen   *seen
	alive  alive

	mu     sync.Mutex
	world  runtime.World
	places *addresses
	// Images of flix's own containers; nil until they are named.
	image, codecImage *ownImage

	// files is held while what a container is to run is changed.
	files sync.Mutex
	// making holds one value while nobody makes containers: two who do at once
	// would make the same ones.
	making chan struct{}
	// detaching is held by who takes a container off the network.
	detaching chan struct{}
	// removal ends when the lab is removed: who makes containers then stops.
	removal context.Context
	remove  context.CancelFunc
}

var _ runtime.Runtime = (*Runtime)(nil)

// New connects to the engine and re-attaches to what the journal knows.
func New(ctx context.Context, c Config) (*Runtime, error) {
	engine, err := images.Open(ctx, c.Getenv)
	if err != nil {
		return nil, err
	}
	docker := engine.Client()
	r := &Runtime{c: c, prefix: prefix(c.Lab, c.Dir), docker: docker, seen: newSeen(), making: make(chan struct{}, 1), detaching: make(chan struct{}, 1)}
	r.making <- struct{}{}
	r.removal, r.remove = context.WithCancel(context.Background())
	if r.places, err = newAddresses(c.Journal); err == nil {
		err = r.readWorld()
	}
	if err != nil {
		return nil, errors.Join(err, docker.Close())
	}
	return r, nil
}

// Close ends the connection to the engine; the containers stay.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.remove()
	r.mu.Unlock()
	return r.docker.Close()
}

// Name implements runtime.Runtime.
func (*Runtime) Name() string { return Name }

// Prepare checks the engine's clock and chooses the lab's subnet; it comes
// before the first Place.
func (r *Runtime) Prepare(ctx context.Context) error {
	if err := r.checkClock(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places.subnet.IsValid() {
		return nil
	}
	if r.hostNetwork() {
		return r.places.chooseLoopback(r.prefix)
	}
	taken, err := machineNetworks()
	if err != nil {
		return err
	}
	routes, err := routedNetworks()
	if err != nil {
		return err
	}
	nets, err := r.docker.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return r.broken(err)
	}
	for _, n := range nets.Items {
		for _, c := range n.IPAM.Config {
			if c.Subnet.IsValid() {
				taken = append(taken, c.Subnet)
			}
		}
	}
	return r.places.choose(r.prefix, append(taken, routes...))
}

// SetWorld implements runtime.Runtime.
func (r *Runtime) SetWorld(ctx context.Context, w runtime.World) error {
	r.mu.Lock()
	r.world = w
	err := r.writeWorld(w)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	cs, err := r.containers(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, c := range cs {
		if !c.running || c.store() {
			continue
		}
		h, err := r.control(c.address)
		if err != nil {
			return err
		}
		g.Go(func() error {
			if err := h.SetWorld(ctx, w); err != nil && !errors.Is(err, host.ErrGone) {
				return fmt.Errorf("%s: %w", c.id, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// parallel is how many requests the engine gets at once: it does not start
// containers faster with more.
const parallel = 8

// Start implements runtime.Runtime. It returns when every service listens; a
// store takes longer and is in the registry once it answers.
func (r *Runtime) Start(ctx context.Context, specs []runtime.Spec) error {
	own, err := r.makeAll(ctx, specs)
	if err != nil {
		return err
	}
	return r.tell(ctx, own)
}

// makeAll sees to it that the containers of the specs run, and returns those of
// flix's own. One caller at a time does.
func (r *Runtime) makeAll(ctx context.Context, specs []runtime.Spec) (own []declaration, err error) {
	r.mu.Lock()
	removal := r.removal
	r.mu.Unlock()
	select {
	case <-r.making:
		defer func() { r.making <- struct{}{} }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(removal, cancel)()
	defer func() {
		if err != nil && removal.Err() != nil {
			err = services.Errorf(services.Conflict, "lab %s was taken down meanwhile", r.c.Lab).WithRemedy("bring it up again: flix lab up")
		}
	}()
	if !r.hostNetwork() {
		if err := r.ensureNetwork(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.settleImages(ctx); err != nil {
		return nil, err
	}
	stores, agents, rest, err := r.declare(ctx, specs)
	if err != nil {
		return nil, err
	}
	own = slices.Concat(agents, rest)
	for _, d := range own {
		if err := r.changeSpecs(d.ID, with(d.Specs)); err != nil {
			return nil, err
		}
	}
	there, err := r.byName(ctx)
	if err != nil {
		return nil, err
	}
	defer r.changed()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, d := range slices.Concat(stores, own) {
		g.Go(func() error {
			if err := r.imageFor(gctx, d); err != nil {
				return err
			}
			return r.up(gctx, d, there)
		})
	}
	return own, g.Wait()
}

// declare groups instances into containers: stores first, as they take longest
// to start.
func (r *Runtime) declare(ctx context.Context, specs []runtime.Spec) (stores, agents, rest []declaration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	inside, sidecars := map[string][]runtime.Spec{}, map[string][]runtime.Spec{}
	for _, s := range specs {
		if !isStore(s.Role) {
			id := r.inside(s.Instance)
			inside[id] = append(inside[id], s)
			continue
		}
		d, err := r.store(ctx, s)
		if err != nil {
			return nil, nil, nil, err
		}
		stores = append(stores, d)
		sidecars[s.Region] = append(sidecars[s.Region], s)
	}
	slices.SortStableFunc(stores, func(a, b declaration) int { return slowness(b.Role) - slowness(a.Role) })
	for _, region := range slices.Sorted(maps.Keys(sidecars)) {
		d, err := r.own(agentID(region), region, region, roleAgent, sidecars[region])
		if err != nil {
			return nil, nil, nil, err
		}
		agents = append(agents, d)
	}
	for _, id := range slices.Sorted(maps.Keys(inside)) {
		first, role := inside[id][0], rolePack
		if id == first.ID {
			role = string(first.Role)
		}
		d, err := r.own(id, first.Region, first.Host(), role, inside[id])
		if err != nil {
			return nil, nil, nil, err
		}
		rest = append(rest, d)
	}
	return stores, agents, rest, nil
}

// Roles of containers that hold more than one instance.
const (
	roleAgent = "agent"
	rolePack  = "pack"
)

// own declares a container of flix's own that runs the specs beside those it
// runs already. The caller holds r.mu.
func (r *Runtime) own(id, region, host, role string, specs []runtime.Spec) (declaration, error) {
	all, err := r.specsIn(id)
	if err != nil {
		return declaration{}, err
	}
	all = with(specs)(all)
	address, err := r.places.of(region, id)
	if err != nil {
		return declaration{}, err
	}
	return r.serve(id, region, host, role, address, all), nil
}

// listenTime bounds the wait for a started container to answer.
const listenTime = 60 * time.Second

// tell waits until the containers answer and returns when all of what they are
// to run listens; one that was there before is told what is new.
func (r *Runtime) tell(ctx context.Context, ds []declaration) error {
	ctx, cancel := context.WithTimeout(ctx, listenTime)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, d := range ds {
		h, err := r.control(d.Address)
		if err != nil {
			return err
		}
		g.Go(func() error { return r.tellOne(ctx, h, d) })
	}
	return g.Wait()
}

// tellOne has a container run what it is to, as soon as it answers.
func (r *Runtime) tellOne(ctx context.Context, h *host.Client, d declaration) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		err := h.Start(ctx, d.Specs)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil: // not the time-out of a dial, which looks the same
			return r.late(ctx, d)
		case !errors.Is(err, host.ErrGone):
			return fmt.Errorf("%s: %w", d.ID, err)
		}
		if died := r.died(ctx, d.ID); died != nil {
			return died
		}
		select {
		case <-ctx.Done():
			return r.late(ctx, d)
		case <-time.After(wait):
		}
	}
}

// late is why nobody waits for a container any more.
func (r *Runtime) late(ctx context.Context, d declaration) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return r.silent(d)
	}
	return fmt.Errorf("%s: %w", d.ID, ctx.Err())
}

// silent is the error of a container that did not say in time that it runs what
// it is to.
func (r *Runtime) silent(d declaration) error {
	return services.Errorf(services.Unavailable, "%s does not say within %s, at %s, that it is up", d.ID, listenTime, controlAddr(d.Address)).
		WithRemedy("run the command again: it goes on from here; if it stays so, look at its log: docker logs %s", r.containerName(d.ID))
}
