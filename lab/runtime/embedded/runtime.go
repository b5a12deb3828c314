package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/topology"
)

// Address is where embedded instances listen.
const Address = "127.0.0.1"

// releaseTime bounds how long a host may take to forget an instance.
const releaseTime = 5 * time.Second

// Config of the embedded runtime.
type Config struct {
	// Dir is the lab's directory.
	Dir string
	// Sockets is the folder of the lab's unix sockets.
	Sockets string
	// Exe is the flix executable, Args builds the arguments that run a host,
	// Env its environment.
	Exe  string
	Args func(name, socket string) []string
	Env  []string
	// Journal records every process before it is made.
	Journal *journal.Journal
}

// Runtime is the daemon's side: it spawns hosts and tells them what to run.
type Runtime struct {
	c     Config
	mu    sync.Mutex
	world runtime.World
	hosts map[string]*host.Client
	// spawn serialises the start of one host.
	spawn map[string]*sync.Mutex
	// placed remembers which host an instance runs on.
	placed map[string]string
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns the runtime and re-attaches to hosts that already run.
func New(c Config) *Runtime {
	r := &Runtime{c: c, hosts: map[string]*host.Client{}, spawn: map[string]*sync.Mutex{}, placed: map[string]string{}}
	for _, e := range c.Journal.List(journal.Process) {
		r.hosts[e.ID] = unixClient(r.socket(e.ID))
	}
	return r
}

// Name implements runtime.Runtime.
func (*Runtime) Name() string { return "embedded" }

func (r *Runtime) socket(name string) string { return filepath.Join(r.c.Sockets, "h-"+name+".sock") }

// SetWorld implements runtime.Runtime.
func (r *Runtime) SetWorld(ctx context.Context, w runtime.World) error {
	r.mu.Lock()
	r.world = w
	hosts := make([]*host.Client, 0, len(r.hosts))
	for _, h := range r.hosts {
		hosts = append(hosts, h)
	}
	r.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range hosts {
		g.Go(func() error {
			if err := h.SetWorld(ctx, w); err != nil && !errors.Is(err, host.ErrGone) {
				return err
			}
			return nil
		})
	}
	return g.Wait()
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, specs []runtime.Spec) error {
	byHost := map[string][]runtime.Spec{}
	for _, s := range specs {
		byHost[s.Host()] = append(byHost[s.Host()], s)
	}
	var g errgroup.Group
	for name, specs := range byHost {
		g.Go(func() error {
			h, err := r.ensure(ctx, name)
			if err != nil {
				return err
			}
			r.mu.Lock()
			for _, s := range specs {
				r.placed[s.ID] = name
			}
			r.mu.Unlock()
			return h.Start(ctx, specs)
		})
	}
	return g.Wait()
}

// ensure returns the client of a host, spawning it when it is not there.
func (r *Runtime) ensure(ctx context.Context, name string) (*host.Client, error) {
	r.mu.Lock()
	m, ok := r.spawn[name]
	if !ok {
		m = &sync.Mutex{}
		r.spawn[name] = m
	}
	world := r.world
	r.mu.Unlock()
	m.Lock()
	defer m.Unlock()

	socket := r.socket(name)
	h := unixClient(socket)
	if _, err := h.List(ctx); err == nil {
		if err := r.attach(name); err != nil {
			return nil, err
		}
	} else {
		if err := r.reap(ctx, name); err != nil {
			return nil, err
		}
		if err := r.c.Journal.Put(journal.Process, name, Process{}); err != nil {
			return nil, err
		}
		args := r.c.Args(name, socket)
		p, err := Spawn(ctx, r.c.Exe, filepath.Join(r.c.Dir, "logs", "host-"+name+".log"), r.c.Env, args...)
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", name, err)
		}
		if err := r.c.Journal.Put(journal.Process, name, p); err != nil {
			return nil, err
		}
	}
	if err := h.SetWorld(ctx, world); err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	r.mu.Lock()
	r.hosts[name] = h
	r.mu.Unlock()
	return h, nil
}

// attach journals the process of a host that answers but whose start the
// journal does not know: the daemon that started it died in between.
func (r *Runtime) attach(name string) error {
	if r.Hosts()[name] {
		return nil
	}
	for _, p := range r.Find(name) {
		return r.c.Journal.Put(journal.Process, name, p)
	}
	return nil
}

// Find returns the live processes of a host: the one in the journal, and any
// that a crash kept out of it.
func (r *Runtime) Find(name string) []Process {
	ps := Find(r.c.Args(name, r.socket(name))...)
	if e, ok := r.c.Journal.Get(journal.Process, name); ok {
		var p Process
		if json.Unmarshal(e.Data, &p) == nil && p.PID != 0 && p.Alive() && !slices.Contains(ps, p) {
			ps = append(ps, p)
		}
	}
	return ps
}

// reap ends what is left of a host that does not answer.
func (r *Runtime) reap(ctx context.Context, name string) error {
	for _, p := range r.Find(name) {
		if err := endProcess(ctx, p); err != nil {
			return fmt.Errorf("host %s: %w", name, err)
		}
	}
	return nil
}

// endProcess kills a process and waits until it is gone.
func endProcess(ctx context.Context, p Process) error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	return p.WaitGone(ctx)
}

// WaitGone waits until the very process is gone or ctx ends.
func (p Process) WaitGone(ctx context.Context) error {
	for wait := 500 * time.Microsecond; p.Alive(); wait = min(2*wait, 20*time.Millisecond) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d does not end: %w", p.PID, ctx.Err())
		case <-time.After(wait):
		}
	}
	return nil
}

func (r *Runtime) client(name string) (*host.Client, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, ok := r.hosts[name]
	return h, ok
}

func (r *Runtime) hostOf(ctx context.Context, id string) (string, error) {
	r.mu.Lock()
	name, ok := r.placed[id]
	r.mu.Unlock()
	if ok {
		return name, nil
	}
	if _, err := r.List(ctx); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.placed[id], nil
}

// Stop implements runtime.Runtime. A cloud host without instances ends too.
func (r *Runtime) Stop(ctx context.Context, ids []string, grace time.Duration) error {
	byHost := map[string][]string{}
	for _, id := range ids {
		name, err := r.hostOf(ctx, id)
		if err != nil {
			return err
		}
		if name != "" {
			byHost[name] = append(byHost[name], id)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for name, ids := range byHost {
		g.Go(func() error {
			h, ok := r.client(name)
			if !ok {
				return nil
			}
			if err := h.Stop(ctx, ids, grace); err != nil && !errors.Is(err, host.ErrGone) {
				return err
			}
			return nil
		})
	}
	return g.Wait()
}

// Place implements runtime.Runtime: everything listens on loopback, and data
// lie below the lab's folder.
func (r *Runtime) Place(s *runtime.Spec) error {
	s.Address = Address
	s.Dir = filepath.Join(r.c.Dir, "data", filepath.FromSlash(s.ID))
	return nil
}

// Release implements runtime.Runtime: places are not taken from anywhere, but
// the host that ran the instance lists it until it is told to forget it.
func (r *Runtime) Release(i topology.Instance) error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	name, err := r.hostOf(ctx, i.ID)
	if err != nil || name == "" {
		return err
	}
	if h, ok := r.client(name); ok {
		if err := h.Forget(ctx, i.ID); err != nil && !errors.Is(err, host.ErrGone) {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.placed, i.ID)
	return nil
}

// Complete implements runtime.Runtime.
func (r *Runtime) Complete(w *runtime.World) {
	w.Runtime = r.Name()
	w.Peers = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// Shared implements runtime.Runtime.
func (r *Runtime) Shared() (here, there string) { return r.c.Dir, r.c.Dir }

// EndHost implements runtime.Runtime: orderly, then at once. A host's data are
// the lab's to remove.
func (r *Runtime) EndHost(ctx context.Context, name string, _ bool) error {
	if h, ok := r.client(name); ok {
		// A host that does not answer is ended below.
		_ = h.Quit(ctx)
	}
	for _, p := range r.Find(name) {
		soft, cancel := context.WithTimeout(ctx, host.StopGrace)
		err := p.WaitGone(soft)
		cancel()
		if err != nil {
			if err := endProcess(ctx, p); err != nil {
				return err
			}
		}
	}
	return r.forget(name)
}

func (r *Runtime) forget(name string) error {
	r.mu.Lock()
	delete(r.hosts, name)
	for id, h := range r.placed {
		if h == name {
			delete(r.placed, id)
		}
	}
	r.mu.Unlock()
	if err := os.Remove(r.socket(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("host %s: %w", name, err)
	}
	return r.c.Journal.Delete(journal.Process, name)
}

// KillHost kills the process of a host without a word: its data stay. A host
// that does not run is no error.
func (r *Runtime) KillHost(ctx context.Context, name string) error { return r.reap(ctx, name) }

// Kill implements runtime.Runtime.
func (r *Runtime) Kill(ctx context.Context, id string) error {
	name, err := r.hostOf(ctx, id)
	if err != nil {
		return err
	}
	h, ok := r.client(name)
	if !ok {
		return nil
	}
	if err := h.Kill(ctx, id); err != nil && !errors.Is(err, host.ErrGone) {
		return err
	}
	return nil
}

// List implements runtime.Runtime. A host that is gone lists nothing.
func (r *Runtime) List(ctx context.Context) ([]runtime.Instance, error) {
	r.mu.Lock()
	hosts := make(map[string]*host.Client, len(r.hosts))
	for n, h := range r.hosts {
		hosts[n] = h
	}
	r.mu.Unlock()
	var (
		mu  sync.Mutex
		out []runtime.Instance
		g   errgroup.Group
	)
	for name, h := range hosts {
		g.Go(func() error {
			is, err := h.List(ctx)
			if errors.Is(err, host.ErrGone) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("host %s: %w", name, err)
			}
			mu.Lock()
			out = append(out, is...)
			mu.Unlock()
			r.mu.Lock()
			for _, i := range is {
				r.placed[i.Spec.ID] = name
			}
			r.mu.Unlock()
			return nil
		})
	}
	err := g.Wait()
	slices.SortFunc(out, func(a, b runtime.Instance) int { return strings.Compare(a.Spec.ID, b.Spec.ID) })
	return out, err
}

// Remove implements runtime.Runtime: every host is killed by its pidfd.
func (r *Runtime) Remove(ctx context.Context) error {
	names := map[string]bool{}
	for _, e := range r.c.Journal.List(journal.Process) {
		names[e.ID] = true
	}
	var g errgroup.Group
	for name := range names {
		g.Go(func() error {
			if err := r.reap(ctx, name); err != nil {
				return err
			}
			return r.forget(name)
		})
	}
	return g.Wait()
}

// Hosts lists the hosts the journal knows, and whether each is alive.
func (r *Runtime) Hosts() map[string]bool {
	out := map[string]bool{}
	for _, e := range r.c.Journal.List(journal.Process) {
		var p Process
		out[e.ID] = json.Unmarshal(e.Data, &p) == nil && p.PID != 0 && p.Alive()
	}
	return out
}

// Processes implements runtime.Runtime.
func (r *Runtime) Processes(context.Context) ([]int, error) {
	var pids []int
	for _, e := range r.c.Journal.List(journal.Process) {
		var p Process
		if json.Unmarshal(e.Data, &p) == nil && p.PID != 0 && p.Alive() {
			pids = append(pids, p.PID)
		}
	}
	return pids, nil
}
