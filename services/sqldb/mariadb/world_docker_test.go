package mariadb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is some regions' servers on one network.
type world struct {
	t *testing.T

	mu    sync.Mutex
	nodes map[string]*node
}

func newWorld(t *testing.T) *world { return &world{t: t, nodes: map[string]*node{}} }

// node is one region: its server, Keeper and client.
type node struct {
	w       *world
	region  string
	server  *container
	primary bool
	rebuild bool
	db      sqldb.DB
	// tel are the client's instruments, own the Keeper's.
	tel, own *telemetry.Telemetry
	stop     func()
	conn     *grpc.ClientConn
	admin    sqldbpb.SQLClient
}

// add starts a region; the first is primary.
func (w *world) add(region string) *node {
	w.t.Helper()
	w.mu.Lock()
	id := len(w.nodes) + 1
	w.mu.Unlock()
	n := &node{w: w, region: region, server: startContainer(w.t, id), primary: id == 1}
	w.mu.Lock()
	w.nodes[region] = n
	w.mu.Unlock()
	var err error
	n.tel = telemetry.New(telemetry.Config{Instance: region + "/a/test/1", Role: "test", Region: region})
	if n.db, err = mariadb.NewClient(n.config()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		n.end()
		if err := n.db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	n.keep()
	return n
}

func (n *node) config() mariadb.Config {
	a := accounts()
	return mariadb.Config{
		Local: n.local, Nodes: n.w.addrs, User: a.User, Password: a.Password, Database: a.Database, Timing: timing(), Tel: n.tel,
	}
}

func (n *node) local(context.Context) (string, error) { return n.server.published(), nil }

func (w *world) addrs() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for r, n := range w.nodes {
		out[r] = n.server.published()
	}
	return out
}

func (w *world) via(region string) (string, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.nodes[region]; n != nil {
		return n.server.inside(), 3306
	}
	return "", 0
}

// keep starts the region's Keeper.
func (n *node) keep() {
	n.w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.w.t.Fatal(err)
	}
	// Instruments of its own: a Keeper that is started again registers anew.
	var log slog.Handler
	if testing.Verbose() {
		log = slog.NewTextHandler(os.Stderr, nil)
	}
	n.own = telemetry.New(telemetry.Config{Instance: n.region + "/a/sql/1", Role: "sql", Region: n.region, Log: log})
	k, err := mariadb.NewKeeper(mariadb.KeeperConfig{
		Region: n.region, Primary: n.primary, Local: n.local, Nodes: n.w.addrs, Via: n.w.via, Accounts: accounts(), Rebuild: n.rebuild,
		RPC: ln, Timing: timing(), Tel: n.own,
	})
	if err != nil {
		n.w.t.Fatal(err)
	}
	if n.conn, err = grpc.NewClient("passthrough:///"+ln.Addr().String(), append(n.own.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...); err != nil {
		n.w.t.Fatal(err)
	}
	n.admin = sqldbpb.NewSQLClient(n.conn)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Serve(ctx) }()
	n.stop = func() {
		cancel()
		if err := errors.Join(<-done, n.conn.Close()); err != nil {
			n.w.t.Errorf("Keeper of %s: %v", n.region, err)
		}
	}
}

// end stops the region's Keeper.
func (n *node) end() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

func timing() topology.Timing {
	t := topology.LabTiming()
	t.RegistryFetch = topology.Duration(400 * time.Millisecond)
	t.BreakerSleep = topology.Duration(100 * time.Millisecond)
	t.RPCTimeout = topology.Duration(4 * time.Second) // twice that for a write to wait out a promotion
	return t
}

// patience bounds what is waited for: only a hang takes as long.
const patience = 3 * time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

func (n *node) state() (*sqldbpb.StateReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := n.admin.State(ctx, &sqldbpb.StateRequest{})
	return r, telemetry.FromStatus(err)
}

// leads says whether the region's server takes writes.
func (n *node) leads() bool {
	r, err := n.state()
	return err == nil && r.GetPrimary() && !r.GetFenced()
}

func (n *node) position() uint64 {
	n.w.t.Helper()
	r, err := n.state()
	if err != nil {
		n.w.t.Fatal(err)
	}
	return r.GetPosition()
}

func (n *node) promote(position uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := n.admin.Promote(ctx, &sqldbpb.PromoteRequest{Position: position})
	return telemetry.FromStatus(err)
}

func (n *node) fence() (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := n.admin.Fence(ctx, &sqldbpb.FenceRequest{})
	return r.GetPosition(), telemetry.FromStatus(err)
}

func (n *node) putTitle(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return n.db.PutTitle(ctx, sqldb.Title{ID: services.TitleID(id), Name: id})
}

func (n *node) mustPut(ids ...string) {
	n.w.t.Helper()
	for _, id := range ids {
		if err := n.putTitle(id); err != nil {
			n.w.t.Fatalf("%s: PutTitle %s: %v", n.region, id, err)
		}
	}
}

func (n *node) titles() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := n.db.Titles(ctx)
	ids := make([]string, len(all))
	for i, x := range all {
		ids[i] = string(x.ID)
	}
	return ids, err
}

func (n *node) holds(ids ...string) {
	n.w.t.Helper()
	eventually(n.w.t, fmt.Sprintf("%s holds %v", n.region, ids), func() bool {
		have, err := n.titles()
		return err == nil && cmp.Equal(have, ids)
	})
}

// metric sums a metric of the client and the Keeper; with a label's value only
// what has it.
func (n *node) metric(name string, label ...string) float64 {
	n.w.t.Helper()
	v := 0.0
	for _, reg := range []*prometheus.Registry{n.tel.Metrics, n.own.Metrics} {
		families, err := reg.Gather()
		if err != nil {
			n.w.t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == name && (len(label) == 0 || m.GetLabel()[0].GetValue() == label[0]) {
					v += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return v
}
