package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/pki"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers"
	"github.com/flix-lab/flix/lab/runtime/embedded"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// Lab is the engine of one lab's daemon; it implements control.Engine. One
// verb that changes the lab runs at a time; those that read run beside it.
type Lab struct {
	env     Env
	paths   Paths
	started time.Time

	journal *journal.Journal
	log     *control.Log
	ports   *ports
	rt      runtime.Runtime
	remote  *remotes
	// wan is what the instances feel between the regions; the daemon's own calls
	// go past it.
	wan *wan.Table

	// verb is held by the verb that changes the lab; busy names it.
	verb sync.Mutex
	busy string
	// rising says that the verb is an up.
	rising atomic.Bool
	// busyCtx ends when the client of that verb goes away.
	busyCtx context.Context
	// life ends with the daemon.
	life context.Context
	// ending says that the lab is being taken down: no other verb begins a step.
	ending atomic.Bool

	// squeezing is held by the squeeze test that runs, which stopSqueeze ends.
	squeezing   sync.Mutex
	stopSqueeze atomic.Pointer[context.CancelFunc]

	scaler scaler
	// faulting is held while a fault begins or ends.
	faulting sync.Mutex
	// faulted wakes who waits for the next fault to lapse, when there is a new one.
	faulted chan struct{}

	mu     sync.Mutex // guards what follows, and busy
	intent *intent
	secret secrets
	spans  []control.Span
	moves  []control.Failover
	// course is the move that is under way.
	course *course
	// warming is how far the zones are that are being warmed, by REGION/ZONE.
	warming map[string]evcache.Warmed
	// owed are the properties that instances have not heard of, by id and name.
	owed map[string]map[string]struct{}
	// symptoms are what the sentinel saw last.
	symptoms []control.Symptom
}

var _ control.Engine = (*Lab)(nil)

// secrets are what only the lab knows.
type secrets struct {
	key token.Key
	raw []byte
	pki pki.Bundle
}

// publicAddress is where clients find the lab's edges: embedded instances
// listen there, and containers' ports are published there.
const publicAddress = embedded.Address

// open makes the lab's folders and reads what an earlier daemon left.
func open(env Env, p Paths) (*Lab, error) {
	if err := p.make(); err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Path(p.Dir))
	if err != nil {
		return nil, err
	}
	log, err := control.OpenLog(eventsPath(p))
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	l := &Lab{env: env, paths: p, started: time.Now(), journal: j, log: log, faulted: make(chan struct{}, 1)}
	if l.intent, err = readIntent(p.Dir); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.wan = wan.NewTable(topology.Topology{}, l.locate)
	if l.intent != nil {
		l.shape(l.intent)
	}
	if l.ports, err = newPorts(p.Home, p.Name, publicAddress, j); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if err = l.ports.claim(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if l.intent != nil {
		if l.rt, err = newRuntime(context.Background(), env, p, j, l.intent.Runtime, l.containers); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	if l.moves, err = readMoves(p.Dir); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if l.intent != nil {
		if err := l.secrets(l.intent.ID); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	return l, nil
}

func eventsPath(p Paths) string { return filepath.Join(p.Dir, "events.jsonl") }

func (l *Lab) close() error {
	if l.ports != nil {
		l.ports.close()
	}
	return errors.Join(l.journal.Close(), l.log.Close())
}

// Log returns the event log.
func (l *Lab) Log() *control.Log { return l.log }

// Version implements control.Engine.
func (l *Lab) Version() string { return l.env.Version }

// endOfVerb bounds the wait for a verb whose client has gone.
const endOfVerb = 10 * time.Second

// begin takes the lab for a verb that changes it. One that is only ending,
// because its client has gone, is waited for.
func (l *Lab) begin(ctx context.Context, verb string) (func(), error) {
	deadline := time.Now().Add(endOfVerb)
	for wait := time.Millisecond; !l.verb.TryLock(); wait = min(2*wait, 20*time.Millisecond) {
		l.mu.Lock()
		busy, left := l.busy, l.busyCtx != nil && l.busyCtx.Err() != nil
		l.mu.Unlock()
		if left && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(wait):
			}
			continue
		}
		return nil, services.Errorf(services.Conflict, "lab %s is busy with %q", l.paths.Name, busy).WithRemedy("wait until it is done (flix events -f shows its progress), then run the command again")
	}
	l.mu.Lock()
	l.busy, l.busyCtx = verb, ctx
	l.mu.Unlock()
	return l.verb.Unlock, nil
}

// current returns a copy of the intent's pointer; nil when the lab is not up.
// The value is replaced as a whole, never changed in place: see setIntent.
func (l *Lab) current() *intent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.intent
}

// need returns the intent, or an error when the lab is not up.
func (l *Lab) need() (*intent, error) {
	if i := l.current(); i != nil {
		return i, nil
	}
	return nil, noLab(l.paths.Name)
}

func noLab(name string) error {
	return services.Errorf(services.NotFound, "there is no lab %q", name).WithReason(services.ReasonNoLab).WithRemedy("start it: flix lab up --regions 3%s", nameFlag(name))
}

// DefaultName is the lab that is meant when none is named.
const DefaultName = "default"

func nameFlag(name string) string {
	if name == DefaultName {
		return ""
	}
	return " --name " + name
}

// changeIntent edits a copy of the intent, writes it to disk and makes it the
// current one.
func (l *Lab) changeIntent(edit func(*intent)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, err := l.intent.clone()
	if err != nil {
		return err
	}
	edit(next)
	if err := next.write(l.paths.Dir); err != nil {
		return err
	}
	l.intent = next
	l.shape(next)
	return nil
}

// shape makes the WAN what an intent wants.
func (l *Lab) shape(i *intent) {
	cuts := make([]wan.Cut, 0, len(i.Cuts))
	for _, c := range i.Cuts {
		cuts = append(cuts, wan.Cut(c))
	}
	l.wan.Set(i.Topology)
	l.wan.Sever(cuts)
}

// locate reads the region of an address off its port.
func (l *Lab) locate(addr string) (string, bool) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", false
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", false
	}
	return runtime.World{Ports: l.ports.ranges()}.RegionOfPort(n)
}

// secrets reads the lab's key and certificates, making them first if there
// are none.
func (l *Lab) secrets(id string) error {
	keyPath := filepath.Join(l.paths.Dir, "key")
	raw, err := os.ReadFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		raw = make([]byte, 32)
		if _, err := rand.Read(raw); err != nil {
			return fmt.Errorf("lab key: %w", err)
		}
		err = writeFile(keyPath, raw)
	}
	if err != nil {
		return fmt.Errorf("lab key: %w", err)
	}
	key, err := token.NewKey(id, raw)
	if err != nil {
		return err
	}
	bundle, err := readPKI(l.paths, l.env)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.secret = secrets{key: key, raw: raw, pki: bundle}
	l.mu.Unlock()
	return nil
}

func readPKI(p Paths, _ Env) (pki.Bundle, error) {
	dir := filepath.Join(p.Dir, "pki")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil
		}
		return b
	}
	b := pki.Bundle{CA: read("ca.pem"), Cert: read("cert.pem"), Key: read("key.pem")}
	if b.CA != nil && b.Cert != nil && b.Key != nil {
		return b, nil
	}
	b, err := pki.New(p.Name, time.Now())
	if err != nil {
		return b, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return b, fmt.Errorf("pki: %w", err)
	}
	for name, pem := range map[string][]byte{"ca.pem": b.CA, "cert.pem": b.Cert, "key.pem": b.Key} {
		if err := writeFile(filepath.Join(dir, name), pem); err != nil {
			return b, fmt.Errorf("pki: %w", err)
		}
	}
	return b, nil
}

func newID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

// spec declares an instance to the runtime.
func (l *Lab) spec(i *intent, inst topology.Instance) (runtime.Spec, error) {
	ports, err := l.ports.of(inst)
	if err != nil {
		return runtime.Spec{}, err
	}
	props := map[string]string{}
	for k, v := range i.Properties[inst.Region][inst.Role] {
		props[k] = v
	}
	status := lookup.StatusUp
	if i.Dark[inst.ID] {
		status = lookup.StatusStarting
	}
	if slices.ContainsFunc(i.Extra, func(x topology.Instance) bool { return x.ID == inst.ID }) {
		props[propStatus] = status // it changes while the instance runs
	}
	s := runtime.Spec{
		Instance: inst, PortNumbers: ports, Properties: props, Status: status,
		Primary: inst.Role == topology.RoleSQL && inst.Region == i.Topology.Regions[0].Name && inst.Number == 1,
	}
	return s, l.rt.Place(&s)
}

// endpoint is where a port of an instance is dialled from this machine: one
// that clients dial, at the address it is published on.
func endpoint(w runtime.World, s runtime.Spec, port string) string {
	if w.Client != "" && containers.Public(s.Instance, port) {
		return net.JoinHostPort(w.Client, strconv.Itoa(s.PortNumbers[port]))
	}
	return s.Addr(port)
}

// specs declares every wanted instance.
func (l *Lab) specs(i *intent) ([]runtime.Spec, error) {
	var out []runtime.Spec
	for _, inst := range i.instances() {
		s, err := l.spec(i, inst)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// world is what all instances of the lab share.
func (l *Lab) world(i *intent, specs []runtime.Spec) runtime.World {
	l.mu.Lock()
	sec := l.secret
	l.mu.Unlock()
	w := runtime.World{
		Lab: i.Name, ID: i.ID, Topology: i.Topology, Key: sec.raw,
		CAPEM: sec.pki.CA, CertPEM: sec.pki.Cert, KeyPEM: sec.pki.Key,
		Registries: map[string][]string{}, Ports: l.ports.ranges(),
	}
	for _, c := range i.Cuts {
		if c.Until.After(time.Now()) {
			w.Cuts = append(w.Cuts, c)
		}
	}
	w.Faults = l.addressed(i)
	l.rt.Complete(&w)
	for _, s := range specs {
		if s.Role == topology.RoleRegistry {
			w.Registries[s.Region] = append(w.Registries[s.Region], "http://"+s.Addr(topology.PortHTTP))
		}
		if s.Sidecar {
			w.Stores = append(w.Stores, s)
		}
	}
	return w
}

// World implements control.Engine.
func (l *Lab) World(context.Context) (control.World, error) {
	i, err := l.need()
	if err != nil {
		return control.World{}, err
	}
	specs, err := l.specs(i)
	if err != nil {
		return control.World{}, err
	}
	rw := l.world(i, specs)
	w := control.World{Faults: rw.Faults, Lab: i.Name, Topology: i.Topology, DNS: map[string]string{}, CAPEM: rw.CAPEM}
	for _, r := range rw.Ports {
		w.Ports = append(w.Ports, control.PortRange(r))
	}
	for _, s := range specs {
		if s.Role == topology.RoleDNS {
			w.DNS[s.Region] = endpoint(rw, s, topology.PortClient)
		}
	}
	return w, nil
}
