package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/embedded"
	"github.com/flix-lab/flix/services/kv/kvtest"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

func TestContract(t *testing.T) {
	w := newWorld(t)
	n := w.start("us-east")
	kvtest.Run(t, func(testing.TB) kv.Store { return n.store })
}

// world is some regions on one network whose paths can be slowed and cut.
type world struct {
	t *testing.T

	mu    sync.Mutex
	addrs map[string]string // region → replication address
	cut   map[string]bool   // region whose connections are refused and reset
	open  map[net.Conn]string
	delay time.Duration

	mute       atomic.Bool // writes go nowhere, without an error
	mutedDials atomic.Int64
}

// mutedConn is a connection on a path that can fall silent.
type mutedConn struct {
	net.Conn
	w *world
}

func (c mutedConn) Write(b []byte) (int, error) {
	if c.w.mute.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func newWorld(t *testing.T) *world {
	return &world{t: t, addrs: map[string]string{}, cut: map[string]bool{}, open: map[net.Conn]string{}}
}

// node is one region's running store.
type node struct {
	w      *world
	region string
	dir    string
	store  kv.Store
	conn   *grpc.ClientConn
	tel    *telemetry.Telemetry
	skew   atomic.Int64
	stop   context.CancelFunc
	done   chan error
}

// start runs a region's store in a directory of its own.
func (w *world) start(region string, opts ...func(*embedded.Config)) *node {
	return w.startIn(region, w.t.TempDir(), opts...)
}

func (w *world) startIn(region, dir string, opts ...func(*embedded.Config)) *node {
	w.t.Helper()
	n := &node{w: w, region: region, dir: dir, done: make(chan error, 1)}
	n.tel = telemetry.New(telemetry.Config{Instance: region + "/a/kv/1", Role: "kv", Region: region})
	rpc, repl := listen(w.t), listen(w.t)
	c := embedded.Config{
		Dir: dir, Region: region, RPC: rpc, Replication: repl, Peers: w.peers,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return w.dial(ctx, region, network, addr)
		},
		Clock: func() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) },
		Tel:   n.tel, Timing: timing(),
	}
	for _, o := range opts {
		o(&c)
	}
	srv, err := embedded.NewServer(c)
	if err != nil {
		w.t.Fatalf("NewServer %s: %v", region, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.done <- srv.Serve(ctx) }()
	n.conn, err = grpc.NewClient("passthrough:///"+rpc.Addr().String(), append(n.tel.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		w.t.Fatal(err)
	}
	n.store = embedded.NewClient(n.conn)
	w.mu.Lock()
	w.addrs[region] = repl.Addr().String()
	w.mu.Unlock()
	w.t.Cleanup(n.close)
	return n
}

// close stops the store and waits for it; more than once is fine.
func (n *node) close() {
	if n.stop == nil {
		return
	}
	n.stop()
	if err := <-n.done; err != nil {
		n.w.t.Errorf("Serve %s: %v", n.region, err)
	}
	if err := errors.Join(n.store.Close(), n.conn.Close()); err != nil {
		n.w.t.Errorf("close %s: %v", n.region, err)
	}
	n.stop = nil
}

func (w *world) peers() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := make(map[string]string, len(w.addrs))
	for k, v := range w.addrs {
		m[k] = v
	}
	return m
}

// forget takes a region off the list of peers.
func (w *world) forget(region string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.addrs, region)
}

// partition cuts a region off, or joins it again.
func (w *world) partition(region string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[region] = cut
	for c, between := range w.open {
		if cut && (between == region || c.RemoteAddr().String() == w.addrs[region]) {
			_ = c.Close()
			delete(w.open, c)
		}
	}
}

// severed says whether there is no way between them; the caller holds mu.
func (w *world) severed(from, addr string) bool {
	for region, a := range w.addrs {
		if a == addr && w.cut[region] {
			return true
		}
	}
	return w.cut[from]
}

var errCut = errors.New("no route to region")

func (w *world) dial(ctx context.Context, from, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	delay, severed := w.delay, w.severed(from, addr)
	w.mu.Unlock()
	if severed {
		return nil, errCut
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if w.mute.Load() {
		w.mutedDials.Add(1)
	}
	c = mutedConn{c, w}
	if delay > 0 {
		c = newSlowConn(c, delay)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.severed(from, addr) { // meanwhile
		_ = c.Close()
		return nil, errCut
	}
	w.open[c] = from
	return c, nil
}

// slowConn delivers what is written to it after a delay, in order.
type slowConn struct {
	net.Conn
	delay time.Duration
	queue chan slowWrite
	ended chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

type slowWrite struct {
	due  time.Time
	data []byte
}

func newSlowConn(c net.Conn, delay time.Duration) net.Conn {
	s := &slowConn{Conn: c, delay: delay, queue: make(chan slowWrite, 1024), ended: make(chan struct{})}
	s.wg.Go(s.run)
	return s
}

func (s *slowConn) run() {
	for {
		select {
		case w := <-s.queue:
			timer := time.NewTimer(time.Until(w.due))
			select {
			case <-timer.C:
			case <-s.ended:
				timer.Stop()
				return
			}
			if _, err := s.Conn.Write(w.data); err != nil {
				return
			}
		case <-s.ended:
			return
		}
	}
}

func (s *slowConn) Write(b []byte) (int, error) {
	select {
	case s.queue <- slowWrite{due: time.Now().Add(s.delay), data: append([]byte(nil), b...)}:
		return len(b), nil
	case <-s.ended:
		return 0, net.ErrClosed
	}
}

func (s *slowConn) Close() error {
	s.once.Do(func() { close(s.ended) })
	err := s.Conn.Close()
	s.wg.Wait()
	return err
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func timing() topology.Timing {
	t := topology.LabTiming()
	t.RegistryFetch = topology.Duration(50 * time.Millisecond)
	t.BreakerSleep = topology.Duration(40 * time.Millisecond)
	t.EvictionInterval = topology.Duration(20 * time.Millisecond)
	// A path is silent, and given up, only where a test makes it so.
	t.RPCTimeout = topology.Duration(time.Minute)
	return t
}

// Cells that were written again and again, and some that were not, are each read
// once, as they were last.
func TestOverwrittenCells(t *testing.T) {
	w := newWorld(t)
	a := w.start("us-east")
	var want []string
	for round := range overwrites {
		var items []kv.Item
		for k := range overwrites {
			if k%3 != 0 || round == 0 {
				items = append(items, kv.Item{Sort: fmt.Sprintf("k%02d", k), Value: []byte(fmt.Sprint(round))})
			}
		}
		if err := a.store.Put(t.Context(), kv.Bookmarks, "p", items...); err != nil {
			t.Fatal(err)
		}
	}
	for k := range overwrites {
		switch key := fmt.Sprintf("k%02d", k); {
		case k%7 == 1:
			a.del(key)
		case k%3 == 0:
			want = append(want, key+"=0")
		default:
			want = append(want, fmt.Sprintf("%s=%d", key, overwrites-1))
		}
	}
	for _, limit := range []int{0, 4} {
		var got []string
		for page := ""; ; {
			items, next, err := a.store.Query(t.Context(), kv.Bookmarks, "p", kv.Range{Limit: limit, Page: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				got = append(got, it.Sort+"="+string(it.Value))
			}
			if page = next; page == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %v, want %v", limit, got, want)
		}
	}
}

// overwrites is more than a step over versions takes before it turns to looking up.
const overwrites = 24

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		l := listen(b)
		s, err := embedded.NewServer(embedded.Config{Dir: b.TempDir(), Region: "us-east", RPC: l, Tel: telemetry.Discard(), Timing: timing()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		if err := s.Serve(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
