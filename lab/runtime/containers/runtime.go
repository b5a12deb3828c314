package containers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
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

	mu     sync.Mutex
	world  runtime.World
	places *addresses
	// Images of flix's own containers; "" until they are there.
	image, codecImage string

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

// Place implements runtime.Runtime.
func (r *Runtime) Place(s *runtime.Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.places.subnet.IsValid() {
		return services.Errorf(services.Conflict, "%s: the lab has no network yet", s.ID)
	}
	var err error
	if s.Address, err = r.places.of(s.Region, r.inside(s.Instance)); err != nil {
		return err
	}
	if r.hostNetwork() && faceClients(s.Role) {
		s.Address = clientAddress.String()
	}
	s.Dir = dataDir
	if r.packed() {
		s.Dir = dataDir + "/" + strings.ReplaceAll(s.ID, "/", "-")
	}
	if !isStore(s.Role) {
		return nil
	}
	agent, err := r.places.of(s.Region, agentID(s.Region))
	if err != nil {
		return err
	}
	s.Sidecar, s.Dir = true, dataDir+"/"+strings.ReplaceAll(s.ID, "/", "-")
	s.Addresses = map[string]string{topology.PortAdmin: agent, topology.PortReplication: agent}
	if r.hostNetwork() && s.Role == topology.RoleKV {
		// Here a connection's source tells nothing about the region it comes from:
		// no proxy could delay it, so the nodes meet without one.
		delete(s.Addresses, topology.PortReplication)
	}
	if s.Role == topology.RoleS3 { // clients come through the sidecar, which counts what is served
		s.Addresses[topology.PortHTTP] = agent
	}
	return nil
}

// InContainer names the container that an instance runs in, and how many of
// flix's own instances it is: none when a real store serves it.
func InContainer(c topology.Containers, i topology.Instance) (id string, own int) {
	switch {
	case isStore(i.Role):
		return i.ID, 0
	case c.Pack == topology.PackZone:
		return packID(i), 1
	}
	return i.ID, 1
}

// inside is the container that an instance runs in.
func (r *Runtime) inside(i topology.Instance) string {
	id, _ := InContainer(r.c.Declared(), i)
	return id
}

// packed says whether a zone's services share one container.
func (r *Runtime) packed() bool { return r.c.Declared().Pack == topology.PackZone }

// Release implements runtime.Runtime. A container that several instances share
// goes with the last of them.
func (r *Runtime) Release(i topology.Instance) error {
	id := r.inside(i)
	if id != i.ID {
		left, err := r.specsIn(id)
		if err != nil || len(left) > 0 {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	if err := errors.Join(r.removeAll(ctx, filter{name: r.containerName(id)}, false), r.forgetSpecs(id)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.places.release(id)
}

// hostNetwork says whether containers share this machine's network.
func (r *Runtime) hostNetwork() bool { return r.c.Declared().Network == topology.HostNetwork }

// faceClients says whether clients dial instances of a role. On the machine's
// own network these listen where clients look for them.
func faceClients(role topology.Role) bool {
	return role == topology.RoleDNS || role == topology.RoleELB || role == topology.RoleOCA
}

// Complete implements runtime.Runtime.
func (r *Runtime) Complete(w *runtime.World) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.Runtime = Name
	if !r.hostNetwork() {
		w.Client = clientAddress.String()
	}
	w.Peers = []netip.Prefix{r.places.subnet, netip.MustParsePrefix("127.0.0.0/8")}
	w.Blocks, _ = r.places.list() // every region of it has its block
}

// controlPort is where a "flix serve" answers the daemon.
const controlPort = 9099

func controlAddr(address string) string {
	return net.JoinHostPort(address, strconv.Itoa(controlPort))
}

// control is a client of the "flix serve" at an address.
func (r *Runtime) control(address string) (*host.Client, error) {
	r.mu.Lock()
	w := r.world
	r.mu.Unlock()
	key, err := token.NewKey(w.ID, w.Key)
	if err != nil {
		return nil, err
	}
	return host.NewClient("http://"+controlAddr(address), key.Secret(token.AdminKey), (&net.Dialer{Timeout: 2 * time.Second}).DialContext), nil
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
	if err := r.EnsureImage(ctx); err != nil {
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
	defer r.seen.forgetAll()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, d := range slices.Concat(stores, own) {
		g.Go(func() error { return r.up(gctx, d, there) })
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
		g.Go(func() error {
			for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
				err := h.Start(ctx, d.Specs)
				if err == nil || !errors.Is(err, host.ErrGone) {
					if err != nil {
						return fmt.Errorf("%s: %w", d.ID, err)
					}
					return nil
				}
				if died := r.died(ctx, d.ID); died != nil {
					return died
				}
				select {
				case <-ctx.Done():
					return services.Errorf(services.Unavailable, "%s does not answer at %s", d.ID, controlAddr(d.Address)).WithRemedy("look at its log: docker logs %s", r.containerName(d.ID))
				case <-time.After(wait):
				}
			}
		})
	}
	return g.Wait()
}

// Stop implements runtime.Runtime.
func (r *Runtime) Stop(ctx context.Context, ids []string, grace time.Duration) error {
	return r.end(ctx, ids, grace, false)
}

// Kill implements runtime.Runtime.
func (r *Runtime) Kill(ctx context.Context, id string) error {
	return r.end(ctx, []string{id}, 0, true)
}

func (r *Runtime) end(ctx context.Context, ids []string, grace time.Duration, kill bool) error {
	cs, err := r.containers(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, c := range cs {
		var inside []string
		for _, s := range c.specs {
			if slices.Contains(ids, s.ID) {
				inside = append(inside, s.ID)
			}
		}
		if len(inside) == 0 || !c.running || c.role == roleAgent { // it stays for the other stores
			continue
		}
		g.Go(func() error {
			if c.role == rolePack {
				return r.endInside(ctx, c, inside, grace, kill)
			}
			switch {
			case c.store() && !kill:
				r.unregister(ctx, c)
			case !c.store() && kill:
				r.reset(ctx, c, inside)
			}
			return r.stopContainer(ctx, c, grace, kill)
		})
	}
	err = g.Wait()
	r.seen.forgetAll()
	return err
}

func (r *Runtime) endInside(ctx context.Context, c found, ids []string, grace time.Duration, kill bool) error {
	h, err := r.control(c.address)
	if err != nil {
		return err
	}
	if err := r.changeSpecs(c.id, without(ids)); err != nil {
		return err
	}
	if kill {
		err = h.Kill(ctx, ids...)
	} else {
		err = h.Stop(ctx, ids, grace)
	}
	if errors.Is(err, host.ErrGone) {
		return nil
	}
	return err
}

// unregister stops the sidecar of a store that is about to stop, so that
// nobody is sent there any more. An agent that is gone has none.
func (r *Runtime) unregister(ctx context.Context, c found) {
	h, err := r.control(c.specs[0].Where(topology.PortAdmin))
	if err != nil {
		return
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = h.Stop(short, []string{c.specs[0].ID}, time.Second)
}

// reset breaks the connections of instances that are about to be killed: the
// kernel would end those of a killed process in order. Where nobody answers any
// more that is all there is to do.
func (r *Runtime) reset(ctx context.Context, c found, ids []string) {
	h, err := r.control(c.address)
	if err != nil {
		return
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = h.Kill(short, ids...)
}

func (r *Runtime) stopContainer(ctx context.Context, c found, grace time.Duration, kill bool) error {
	var err error
	if kill {
		_, err = r.docker.ContainerKill(ctx, c.container, client.ContainerKillOptions{Signal: "KILL"})
	} else {
		seconds := int((grace + time.Second - 1) / time.Second)
		_, err = r.docker.ContainerStop(ctx, c.container, client.ContainerStopOptions{Timeout: &seconds})
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("%s: %w", c.id, r.broken(err))
	}
	return nil
}

// routedNetworks are the networks that this machine has routes to, but the
// default one: a lab's network must not hide them.
func routedNetworks() ([]netip.Prefix, error) {
	b, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, fmt.Errorf("routes of this machine: %w", err)
	}
	return parseRoutes(string(b)), nil
}

// parseRoutes reads the kernel's table of IPv4 routes: the destination and its
// mask are in hexadecimal, in the machine's (little-endian) order of bytes.
func parseRoutes(table string) []netip.Prefix {
	var out []netip.Prefix
	for _, line := range strings.Split(table, "\n") {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		dest, err1 := strconv.ParseUint(f[1], 16, 32)
		mask, err2 := strconv.ParseUint(f[7], 16, 32)
		if err1 != nil || err2 != nil || mask == 0 {
			continue
		}
		bits := 0
		for m := mask; m != 0; m &= m - 1 {
			bits++
		}
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(dest), byte(dest >> 8), byte(dest >> 16), byte(dest >> 24)}), bits))
	}
	return out
}
