package embedded_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/embedded"
	"github.com/flix-lab/flix/services/sqldb/sqldbtest"
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
	n := w.start("us-east", true)
	sqldbtest.Run(t, func(testing.TB) sqldb.DB { return n.db })
}

// world is some regions on one network whose paths can be cut.
type world struct {
	t *testing.T

	mu    sync.Mutex
	addrs map[string]string
	cut   map[string]bool
	open  map[net.Conn][2]string // from region, to address

	timing topology.Timing
}

func newWorld(t *testing.T) *world {
	return &world{t: t, addrs: map[string]string{}, cut: map[string]bool{}, open: map[net.Conn][2]string{}, timing: timing()}
}

// node is one region's running node.
type node struct {
	w      *world
	region string
	dir    string
	db     sqldb.DB
	admin  sqldb.Node
	conn   *grpc.ClientConn
	tel    *telemetry.Telemetry
	stop   context.CancelFunc
	done   chan error
}

func (w *world) start(region string, primary bool) *node {
	return w.startIn(region, w.t.TempDir(), primary)
}

func (w *world) startIn(region, dir string, primary bool) *node {
	w.t.Helper()
	n := &node{w: w, region: region, dir: dir, done: make(chan error, 1)}
	n.tel = telemetry.New(telemetry.Config{Instance: region + "/a/sql/1", Role: "sql", Region: region})
	rpc, repl := listen(w.t), listen(w.t)
	w.mu.Lock()
	w.addrs[region] = repl.Addr().String()
	w.mu.Unlock()
	srv, err := embedded.NewServer(embedded.Config{
		Dir: dir, Region: region, RPC: rpc, Replication: repl, Primary: primary, Peers: w.peers,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return w.dial(ctx, region, network, addr)
		},
		Tel: n.tel, Timing: w.timing,
	})
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
	n.db, n.admin = embedded.NewClient(n.conn), embedded.NewNode(n.conn)
	w.t.Cleanup(n.close)
	return n
}

// close stops the node and waits for it; more than once is fine.
func (n *node) close() {
	if n.stop == nil {
		return
	}
	n.stop()
	if err := <-n.done; err != nil {
		n.w.t.Errorf("Serve %s: %v", n.region, err)
	}
	if err := errors.Join(n.db.Close(), n.conn.Close()); err != nil {
		n.w.t.Errorf("close %s: %v", n.region, err)
	}
	n.stop = nil
}

func (w *world) peers() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.addrs)
}

// partition cuts a region off, or joins it again.
func (w *world) partition(region string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[region] = cut
	for c, ends := range w.open {
		if cut && (ends[0] == region || ends[1] == w.addrs[region]) {
			_ = c.Close()
			delete(w.open, c)
		}
	}
}

var errCut = errors.New("no route to region")

func (w *world) dial(ctx context.Context, from, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for region, a := range w.addrs {
		if (a == addr && w.cut[region]) || w.cut[from] {
			return nil, errCut
		}
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err == nil {
		w.open[c] = [2]string{from, addr}
	}
	return c, err
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
	// A peer counts as silent only where a test makes it so.
	t.RPCTimeout = topology.Duration(patience)
	return t
}

// patience bounds what is waited for: only a hang takes as long.
const patience = time.Minute

// impatient makes nodes that are started from now on give up soon.
func (w *world) impatient() { w.timing.RPCTimeout = topology.Duration(300 * time.Millisecond) }

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		l := listen(b)
		s, err := embedded.NewServer(embedded.Config{Dir: b.TempDir(), Region: "us-east", RPC: l, Primary: true, Tel: telemetry.Discard(), Timing: timing()})
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
