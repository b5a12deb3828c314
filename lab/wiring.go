package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/rpc"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// fastBackoff reconnects soon: on loopback a peer that is not there yet will be
// in milliseconds.
var fastBackoff = backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// Wiring knows how the roles fit together: it builds the units of one process
// from their specs and holds what they share there (a copy of each registry,
// the WAN table). It is the only place that imports every role.
type Wiring struct {
	log      slog.Handler
	exporter sdktrace.SpanExporter

	world atomic.Pointer[shared]
	wan   *wan.Table

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	lookups map[route]*lookup.Client
	setters map[*unit][]func(topology.Topology) // of the units that take a new topology
	// hosts are the fault domains that have units here; burns the faults that
	// keep processors busy.
	hosts map[string]bool
	burns map[string]bool

	// faults of the world; inject has those of calls.
	faults atomic.Pointer[[]fault.Fault]
	inject rpc.Injector
}

// route is the way from a site in one region to another.
type route struct{ from, to string }

// shared is the world with what is derived from it.
type shared struct {
	runtime.World
	key  token.Key
	ca   *x509.CertPool
	cert tls.Certificate
}

func newShared(world runtime.World) (*shared, error) {
	key, err := token.NewKey(world.ID, world.Key)
	if err != nil {
		return nil, err
	}
	s := &shared{World: world, key: key, ca: x509.NewCertPool()}
	if !s.ca.AppendCertsFromPEM(world.CAPEM) {
		return nil, errors.New("world: the authority's certificate cannot be read")
	}
	if s.cert, err = tls.X509KeyPair(world.CertPEM, world.KeyPEM); err != nil {
		return nil, fmt.Errorf("world: %w", err)
	}
	return s, nil
}

var _ host.Factory = (*Wiring)(nil)

// newWiring returns a wiring that logs to h; spans go to the exporter too, if
// there is one.
func newWiring(h slog.Handler, exporter sdktrace.SpanExporter) *Wiring {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Wiring{log: h, exporter: exporter, ctx: ctx, cancel: cancel, lookups: map[route]*lookup.Client{}, setters: map[*unit][]func(topology.Topology){}, hosts: map[string]bool{}, burns: map[string]bool{}}
	w.wan = wan.NewTable(topology.Topology{}, w.locate)
	return w
}

// locate reads the region of an address off its port.
func (w *Wiring) locate(addr string) (string, bool) {
	s := w.world.Load()
	_, port, err := net.SplitHostPort(addr)
	if s == nil || err != nil {
		return "", false
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", false
	}
	return s.RegionOfPort(n)
}

// SetWorld implements host.Factory.
func (w *Wiring) SetWorld(world runtime.World) error {
	s, err := newShared(world)
	if err != nil {
		return err
	}
	w.world.Store(s)
	w.wan.Set(world.Topology)
	cuts := make([]wan.Cut, 0, len(world.Cuts))
	for _, c := range world.Cuts {
		cuts = append(cuts, wan.Cut(c))
	}
	w.wan.Sever(cuts)
	w.suffer(world.Faults)
	w.mu.Lock()
	var sets []func(topology.Topology)
	for _, s := range w.setters {
		sets = append(sets, s...)
	}
	w.mu.Unlock()
	for _, set := range sets {
		set(world.Topology)
	}
	return nil
}

// Close implements host.Factory.
func (w *Wiring) Close(ctx context.Context) error {
	w.cancel()
	done := make(chan struct{})
	go func() { w.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if w.exporter != nil {
		return w.exporter.Shutdown(ctx)
	}
	return nil
}

// lookup returns this process's copy of a region's registry, as seen from
// another: the requests for it cross the WAN between the two.
func (w *Wiring) lookup(from, to string) *lookup.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := route{from, to}
	if c, ok := w.lookups[r]; ok {
		return c
	}
	c := lookup.New(lookup.Config{
		Registry: func() []string { return w.world.Load().Registries[to] },
		Dial:     w.wan.Dialer(from), Region: to, Log: slog.New(w.log),
		Timing: overDistance(w.world.Load().Topology.Timing, w.world.Load().Topology.RTT(from, to)),
	})
	w.lookups[r] = c
	w.wg.Go(func() { _ = c.Run(w.ctx) }) // ends with the context only
	return c
}

// topology returns the planet as declared now. It is called for every request:
// the value is copied, its slices are shared and never changed.
func (w *Wiring) topology() topology.Topology { return w.world.Load().Topology }

// otherRegions lists the regions of the lab but one.
func (w *Wiring) otherRegions(but string) []string {
	var out []string
	for _, r := range w.world.Load().Topology.Regions {
		if r.Name != but {
			out = append(out, r.Name)
		}
	}
	return out
}

// unit is one instance: its role, its admin endpoint and its place in the
// registry.
type unit struct {
	w     *Wiring
	spec  runtime.Spec
	tel   *telemetry.Telemetry
	ls    host.Listeners
	world *shared

	role    services.Unit
	closers []func() error
	// extra admin endpoints of the role.
	admin func(mux *http.ServeMux, key string)
}

// Build implements host.Factory.
func (w *Wiring) Build(spec runtime.Spec, ls host.Listeners) (services.Unit, error) {
	build, ok := builders[spec.Role]
	if spec.Sidecar {
		build, ok = sidecars[spec.Role]
	}
	if !ok {
		return nil, services.Errorf(services.Invalid, "there is no role %q", spec.Role)
	}
	w.mu.Lock()
	w.hosts[spec.Host()] = true
	w.mu.Unlock()
	world := w.world.Load()
	if world == nil {
		return nil, services.Errorf(services.Conflict, "the host was not told about its world yet")
	}
	u := &unit{w: w, spec: spec, ls: ls, world: world, tel: telemetry.New(telemetry.Config{
		Instance: spec.ID, Role: string(spec.Role), Region: spec.Region, Log: w.log, Exporter: w.exporter, Properties: spec.Properties,
	})}
	role, err := build(u)
	if err != nil {
		return nil, errors.Join(err, u.close())
	}
	u.role = role
	if a, ok := role.(interface {
		RegisterAdmin(mux *http.ServeMux, key string)
	}); ok {
		u.admin = a.RegisterAdmin
	}
	return u, nil
}

func (u *unit) close() error {
	u.w.mu.Lock()
	delete(u.w.setters, u)
	u.w.mu.Unlock()
	var errs []error
	for i := len(u.closers) - 1; i >= 0; i-- {
		errs = append(errs, u.closers[i]())
	}
	return errors.Join(errs...)
}

// farewell bounds what an instance spends on leaving in order.
const farewell = time.Second

// Serve implements services.Unit: register, serve, and when told to end:
// leave the registry, drain, stop. A killed instance does none of that.
func (u *unit) Serve(ctx context.Context) error {
	adminDone := u.serveAdmin()
	reg := u.w.lookup(u.spec.Region, u.spec.Region)
	if u.spec.Role != topology.RoleOCA && !u.spec.Sidecar { // a sidecar registers its store when that answers
		if err := reg.Register(u.entry()); err != nil {
			return err
		}
		u.tel.Properties.Watch(func(name, value string) {
			if name != propStatus || value == "" {
				return
			}
			if err := reg.SetStatus(u.spec.ID, value); err != nil {
				u.tel.Log.Error("the status in the registry", "error", err)
			}
		})
	}
	roleCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served := make(chan error, 1)
	go func() { served <- u.role.Serve(roleCtx) }()
	var err error
	select {
	case err = <-served: // it ended by itself: a failure
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), host.ErrKilled) {
			u.leave(reg)
		}
		stop()
		err = <-served
	}
	// One that did not leave in order keeps its lease only until it runs out.
	reg.Forget(u.spec.ID)
	_ = u.ls.TCP[topology.PortAdmin].Close()
	<-adminDone
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	return errors.Join(err, u.close(), u.tel.Close(flush))
}

// leave takes the instance out of the registry and drains it.
func (u *unit) leave(reg *lookup.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if u.spec.Role != topology.RoleOCA && u.spec.Role != topology.RoleRegistry {
		if err := reg.Deregister(ctx, u.spec.ID); err != nil {
			u.tel.Log.Warn("leaving the registry", "error", err)
		}
	}
	if d, ok := u.role.(services.Drainer); ok {
		if err := d.Drain(ctx); err != nil {
			u.tel.Log.Warn("draining", "error", err)
		}
	}
}

func (u *unit) entry() lookup.Instance {
	return lookup.Instance{
		ID: u.spec.ID, App: string(u.spec.Role), VIP: string(u.spec.Role), Region: u.spec.Region, Zone: u.spec.Zone,
		Host: u.spec.Where(mainPort(u.spec.Instance)), Ports: u.spec.PortNumbers, Status: u.spec.Status,
	}
}

// mainPort is the port that an instance is called at by the others.
func mainPort(i topology.Instance) string {
	if slices.Contains(i.Ports, topology.PortHTTP) {
		return topology.PortHTTP
	}
	return topology.PortRPC
}

// announce puts the store beside a sidecar into the registry while it answers.
func (u *unit) announce(healthy bool) {
	reg := u.local()
	if healthy {
		if err := reg.Register(u.entry()); err != nil {
			u.tel.Log.Error("registering the store", "error", err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := reg.Deregister(ctx, u.spec.ID); err != nil {
		u.tel.Log.Warn("the store does not answer and its lease runs out", "error", err)
	}
}

func (u *unit) serveAdmin() <-chan struct{} {
	key := u.world.key.Secret(token.AdminKey)
	mux := u.tel.AdminMux(key)
	if u.admin != nil {
		u.admin(mux, key)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(u.ls.TCP[topology.PortAdmin]) // ends when the listener is closed
		_ = srv.Close()
	}()
	return done
}

// local is the instance's own copy of its region's registry.
func (u *unit) local() *lookup.Client { return u.w.lookup(u.spec.Region, u.spec.Region) }

// conn returns a gRPC connection to a VIP of a region; it ends with the unit.
func (u *unit) conn(region, vip string, port string) (*grpc.ClientConn, error) {
	c, err := u.w.lookup(u.spec.Region, region).Dial(vip, port, u.dialOptions(vip)...)
	if err != nil {
		return nil, fmt.Errorf("connection to %s of %s: %w", vip, region, err)
	}
	u.closers = append(u.closers, c.Close)
	return c, nil
}

// rpc returns a gRPC connection to a role of the instance's own region.
func (u *unit) rpc(role topology.Role) (*grpc.ClientConn, error) {
	return u.conn(u.spec.Region, string(role), topology.PortRPC)
}

// onTopology calls set with every topology to come until the unit ends.
func (u *unit) onTopology(set func(topology.Topology)) {
	u.w.mu.Lock()
	defer u.w.mu.Unlock()
	u.w.setters[u] = append(u.w.setters[u], set)
}

// knowAll keeps a copy of every region's registry from now on, of those to come
// as well: the role's first answer about another region must not be that there
// is nothing.
func (u *unit) knowAll() {
	know := func(t topology.Topology) {
		for _, r := range t.RegionNames() {
			u.w.lookup(u.spec.Region, r)
		}
	}
	know(u.world.Topology)
	u.onTopology(know)
}

// peers returns region → address of a role's port in the other regions, from
// this process's copies of their registries.
func (u *unit) peers(role topology.Role, port string) func() map[string]string {
	return func() map[string]string {
		out := map[string]string{}
		for _, r := range u.w.otherRegions(u.spec.Region) {
			reg := u.w.lookup(u.spec.Region, r)
			// A region whose registry has been silent for that long is taken to
			// be lost: nobody shall wait for its acknowledgement.
			if !reg.Fetched() || reg.Age() > u.timing().ReportExpiry.D() {
				continue
			}
			for _, i := range reg.VIP(string(role)) {
				out[r] = i.Addr(port)
				break
			}
		}
		return out
	}
}

// addresses returns the addresses of a role's port in the instance's region.
func (u *unit) addresses(role topology.Role, port string) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		is, err := u.local().Wait(ctx, string(role), 1)
		if err != nil {
			return nil, err
		}
		out := make([]string, 0, len(is))
		for _, i := range is {
			out = append(out, i.Addr(port))
		}
		return out, nil
	}
}

// tlsConfig is the configuration of the lab's edges. Those of a scope resume each
// other's sessions.
func (u *unit) tlsConfig(scope string, protocols ...string) *tls.Config {
	tickets := newTickets(u.world.key, scope, time.Now)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: u.certificate(), NextProtos: protocols, WrapSession: tickets.wrap,
		UnwrapSession: func(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
			if u.hasExpired() {
				return nil, nil // whoever comes back shall see the certificate, too
			}
			return tickets.unwrap(ticket, s)
		},
	}
}
