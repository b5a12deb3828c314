package lab

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/lab/check"
	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/cassandra"
	kvembedded "github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/sqldb"
	sqlembedded "github.com/flix-lab/flix/services/sqldb/embedded"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Bounds of a check.
const (
	maxCheckSeconds = 3600
	maxCheckRate    = 1000
	maxCheckWait    = 10 * time.Minute
	// checkWriteTime bounds one write. A commit may wait 5 s for a replica that
	// is silent, and longer for a promotion.
	checkWriteTime = 8 * time.Second
)

// Check implements control.Engine. It runs in the daemon and not in the command:
// the daemon has the stores' credentials and a way to every instance, both of
// which no client program has, and it outlives what a check is meant to watch.
// Its clients are placed in their regions behind the emulated WAN, and it runs
// beside the verbs that change the lab.
func (l *Lab) Check(ctx context.Context, r control.CheckRequest, p control.Progress) (control.Check, error) {
	return l.checkUntil(ctx, ctx, r, p)
}

// checkUntil is Check whose writes end when until does, and not later than its
// seconds.
func (l *Lab) checkUntil(ctx, until context.Context, r control.CheckRequest, p control.Progress) (control.Check, error) {
	i, err := l.need()
	if err != nil {
		return control.Check{}, err
	}
	regions := i.Topology.RegionNames()
	if r.Region == "" {
		r.Region = regions[0]
	}
	wait := time.Duration(r.WaitMS * float64(time.Millisecond))
	switch {
	case !slices.Contains(regions, r.Region):
		return control.Check{}, noRegion(r.Region, i.Topology)
	case !(r.Seconds > 0 && r.Seconds <= maxCheckSeconds):
		return control.Check{}, services.Errorf(services.Invalid, "--seconds: %g is not between 0 and %d", r.Seconds, maxCheckSeconds)
	case !(r.Rate > 0 && r.Rate <= maxCheckRate):
		return control.Check{}, services.Errorf(services.Invalid, "--rate: %g is not between 0 and %d per second", r.Rate, maxCheckRate)
	case wait < 0 || wait > maxCheckWait:
		return control.Check{}, services.Errorf(services.Invalid, "--wait: %s is not between 0 and %s", wait, maxCheckWait)
	}
	rep := control.Check{
		ID: newID(), Region: r.Region, Started: time.Now().UTC(), Seconds: r.Seconds, Rate: r.Rate, Log: r.Log,
		Kinds: []control.CheckKind{}, Regions: []control.CheckRegion{}, Staleness: []control.CheckStaleness{},
	}
	if rep.Log == "" {
		dir := filepath.Join(l.paths.Dir, "checks")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return control.Check{}, fmt.Errorf("check: %w", err)
		}
		rep.Log = filepath.Join(dir, rep.ID+".jsonl")
	}
	clients, err := l.checkers(rep.ID, regions)
	if err != nil {
		return control.Check{}, err
	}
	defer func() {
		for _, c := range clients {
			c.close()
		}
	}()
	log, err := check.CreateLog(rep.Log)
	if err != nil {
		return control.Check{}, err
	}
	tell := func(step, text string, ms float64) {
		if p != nil {
			p(control.Event{At: time.Now().UTC(), Kind: "check.step", Subject: r.Region, Text: text, Data: map[string]any{"step": step, "ms": ms}})
		}
	}
	began := time.Now()
	writes, staleness, err := l.load(ctx, until, r, clients, log, wait)
	if cerr := log.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return rep, err
	}
	tell("write", fmt.Sprintf("%g s of writes as a client of %s", r.Seconds, r.Region), since(began))
	rep.Staleness = append(rep.Staleness, staleness...)
	began = time.Now()
	readers := map[string]check.Reader{}
	for name, c := range clients {
		readers[name] = c
	}
	err = check.Judge(ctx, &rep, writes, readers, wait)
	tell("read", "read back from every region", since(began))
	l.log.Add("check.done", r.Region, "check of "+r.Region+": "+rep.Verdict, map[string]any{"id": rep.ID, "log": rep.Log})
	return rep, err
}

func since(t time.Time) float64 { return float64(time.Since(t).Microseconds()) / 1000 }

// load writes, and follows some of the writes into the other regions; what is
// not there at the end of the writes is followed for as long as wait.
func (l *Lab) load(ctx, until context.Context, r control.CheckRequest, clients map[string]*checker, log *check.Log, wait time.Duration) (map[check.Kind]*check.Writes, []control.CheckStaleness, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		samplers []*check.Sampler
		wg       sync.WaitGroup
	)
	ended := make(chan struct{})
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		if name == r.Region {
			continue
		}
		s := check.NewSampler(name, clients[name])
		samplers = append(samplers, s)
		wg.Go(func() { s.Run(ctx, ended) })
	}
	load := check.Load{
		Write: clients[r.Region].writers(), Rate: r.Rate, For: time.Duration(r.Seconds * float64(time.Second)),
		Timeout: checkWriteTime, Log: log,
		Acknowledged: func(e check.Entry) {
			for _, s := range samplers {
				s.Acknowledged(e)
			}
		},
	}
	writes, err := load.Run(until)
	close(ended)
	timer := time.AfterFunc(wait, stop)
	defer timer.Stop()
	wg.Wait()
	var out []control.CheckStaleness
	for _, s := range samplers {
		out = append(out, s.Staleness()...)
	}
	return writes, out, err
}

// checker is a client of one region's stores, as one of its services is.
type checker struct {
	run   string
	store kv.Store
	db    sqldb.DB
	conns []*grpc.ClientConn

	mu     sync.Mutex
	joined bool
}

var _ check.Reader = (*checker)(nil)

// checkers are clients of every region.
func (l *Lab) checkers(run string, regions []string) (map[string]*checker, error) {
	out := map[string]*checker{}
	for _, name := range regions {
		c, err := l.checker(run, name)
		if err != nil {
			for _, c := range out {
				c.close()
			}
			return nil, err
		}
		out[name] = c
	}
	return out, nil
}

func (l *Lab) checker(run, region string) (*checker, error) {
	c := &checker{run: run}
	var specs []runtime.Spec
	for _, role := range []topology.Role{topology.RoleKV, topology.RoleSQL} {
		s, err := l.specOf(region, role)
		if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	dial := l.wan.Dialer(region)
	if !specs[0].Sidecar {
		for _, s := range specs {
			conn, err := grpc.NewClient("passthrough:///"+s.Addr(topology.PortRPC), grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return dial(ctx, "tcp", a) }),
				grpc.WithConnectParams(grpc.ConnectParams{Backoff: fastBackoff, MinConnectTimeout: time.Second}))
			if err != nil {
				c.close()
				return nil, fmt.Errorf("check: %w", err)
			}
			c.conns = append(c.conns, conn)
		}
		c.store, c.db = kvembedded.NewClient(c.conns[0]), sqlembedded.NewClient(c.conns[1])
		return c, nil
	}
	t := l.current().Topology
	far := topology.Duration(0)
	for _, r := range t.RegionNames() {
		far = max(far, t.RTT(region, r))
	}
	timing := overDistance(t.Timing, far)
	tel := telemetry.New(telemetry.Config{Instance: "checker of " + region, Role: "daemon", Region: region})
	store, err := cassandra.New(cassandra.Config{
		Hosts: func() []string { return l.addresses(region, topology.RoleKV) }, Datacenter: region, Dial: dial, Timing: timing, Tel: tel,
	})
	if err != nil {
		return nil, err
	}
	c.store = store
	l.mu.Lock()
	key := l.secret.key
	l.mu.Unlock()
	if c.db, err = mariadb.NewClient(sqlConfig(l.sqlNodes, key, region, dial, timing, tel)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// addresses lists where the instances of a role in a region listen for calls.
func (l *Lab) addresses(region string, role topology.Role) []string {
	i := l.current()
	if i == nil {
		return nil
	}
	var out []string
	for _, inst := range i.instances() {
		if inst.Region != region || inst.Role != role {
			continue
		}
		if s, err := l.spec(i, inst); err == nil {
			out = append(out, s.Addr(topology.PortRPC))
		}
	}
	return out
}

func (c *checker) close() {
	if c.store != nil {
		_ = c.store.Close() // nothing is under way any more
	}
	if c.db != nil {
		_ = c.db.Close()
	}
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// The kinds' namespaces.
var checkNamespaces = map[check.Kind]kv.Namespace{check.Local: kv.Probe, check.Global: kv.ProbeGlobal}

// checkPage is how many keys share a partition.
const checkPage = 500

// partition of a key, which is a number.
func (c *checker) partition(key string) (string, error) {
	n, err := strconv.Atoi(key)
	if err != nil {
		return "", services.Errorf(services.Invalid, "a check's key is a number, and %q is none", key)
	}
	return fmt.Sprintf("check %s %d", c.run, n/checkPage), nil
}

func (c *checker) writers() map[check.Kind]check.Writer {
	out := map[check.Kind]check.Writer{check.SQL: c.commit}
	for kind, ns := range checkNamespaces {
		out[kind] = func(ctx context.Context, key, value string) error {
			part, err := c.partition(key)
			if err != nil {
				return err
			}
			return c.store.Put(ctx, ns, part, kv.Item{Sort: key, Value: []byte(value)})
		}
	}
	return out
}

func (c *checker) memberID() services.MemberID { return services.MemberID("check-" + c.run) }

func (c *checker) entryKey(key string) string { return "check " + c.run + " " + key }

// commit writes a ledger entry; the first one comes with its member.
func (c *checker) commit(ctx context.Context, key, value string) error {
	cents, err := strconv.Atoi(value)
	if err != nil {
		return services.Errorf(services.Invalid, "%q is no amount", value)
	}
	if err := c.join(ctx); err != nil {
		return err
	}
	return c.db.AppendEntry(ctx, sqldb.Entry{Key: c.entryKey(key), Member: c.memberID(), Kind: "charge", Cents: cents, At: time.Now().UTC()})
}

// join makes the member whose ledger it is; doing so again changes nothing.
func (c *checker) join(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.joined {
		return nil
	}
	now := time.Now().UTC()
	_, err := c.db.CreateMember(ctx,
		sqldb.Member{ID: c.memberID(), Email: string(c.memberID()) + "@flix.test", Name: "Checker", Plan: "basic", Country: "US", PasswordHash: "-", Created: now},
		sqldb.Entry{Key: c.entryKey("member"), Kind: "trial", At: now})
	c.joined = err == nil
	return err
}

// Get implements check.Reader.
func (c *checker) Get(ctx context.Context, kind check.Kind, key string) (bool, error) {
	if kind == check.SQL {
		_, err := c.db.Entry(ctx, c.entryKey(key))
		return found(err)
	}
	part, err := c.partition(key)
	if err != nil {
		return false, err
	}
	_, err = c.store.Get(ctx, checkNamespaces[kind], part, key)
	return found(err)
}

// found tells what is not there from what could not be asked.
func found(err error) (bool, error) {
	if services.KindOf(err) == services.NotFound {
		return false, nil
	}
	return err == nil, err
}

// All implements check.Reader.
func (c *checker) All(ctx context.Context, kind check.Kind, keys []string) (map[string]string, error) {
	if kind == check.SQL {
		return c.ledger(ctx)
	}
	out, done := map[string]string{}, map[string]bool{}
	for _, key := range keys {
		part, err := c.partition(key)
		if err != nil {
			return nil, err
		}
		if done[part] {
			continue
		}
		done[part] = true
		for page := ""; ; {
			items, next, err := c.store.Query(ctx, checkNamespaces[kind], part, kv.Range{Page: page})
			if err != nil {
				return nil, err
			}
			for _, it := range items {
				out[it.Sort] = string(it.Value)
			}
			if page = next; page == "" {
				break
			}
		}
	}
	return out, nil
}

// ledger reads the member's entries by the check's own keys.
func (c *checker) ledger(ctx context.Context) (map[string]string, error) {
	es, err := c.db.Ledger(ctx, c.memberID())
	if err != nil {
		return nil, err
	}
	out, prefix := make(map[string]string, len(es)), c.entryKey("")
	for _, e := range es {
		out[e.Key[min(len(prefix), len(e.Key)):]] = strconv.Itoa(e.Cents)
	}
	return out, nil
}
