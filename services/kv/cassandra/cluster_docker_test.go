package cassandra_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/dockertest"
	"github.com/flix-lab/flix/services/kv/cassandra"
	"github.com/flix-lab/flix/services/kv/kvtest"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// The regions of the cluster under test: a datacentre of one node each.
const east, west, europe = "us-east", "us-west", "eu-west"

var regions = []string{east, west, europe}

// cluster is three nodes in containers.
type cluster struct {
	name, network string
	nodes         []string // names of containers, in the order of regions
}

// shared is the one cluster of all tests: it takes half a minute to start.
var shared struct {
	once sync.Once
	c    *cluster
	err  error
}

// sharedCluster returns the cluster, started and migrated. It skips the test
// where there is none to be had, and fails it when FLIX_REQUIRE_DOCKER is 1.
func sharedCluster(t testing.TB) *cluster {
	t.Helper()
	image := dockertest.Image(t, "cassandra", "cassandra:5.0.5", "flix/cassandra:5.0.5")
	shared.once.Do(func() {
		start := time.Now()
		shared.c, shared.err = startCluster(image)
		t.Logf("three datacentres answer after %v", time.Since(start).Round(100*time.Millisecond))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.c
}

func removeShared() error {
	if shared.c == nil {
		return nil
	}
	return shared.c.remove()
}

// startCluster starts all nodes at once, each a seed: a seed does not wait for
// others and has nothing to fetch from them.
func startCluster(image string) (*cluster, error) {
	id := strings.ToLower(rand.Text()[:8])
	c := &cluster{name: "flixt-cas-" + id, network: "flixt-cas-" + id}
	subnet, err := c.makeNetwork()
	if err != nil {
		return c, err
	}
	var seeds []string
	for i := range regions {
		seeds = append(seeds, fmt.Sprint(subnet, ".", 11+i))
	}
	for i, r := range regions {
		name := c.name + "-" + r
		c.nodes = append(c.nodes, name)
		if _, err := dockertest.Run("run", "--detach", "--name", name, "--network", c.network, "--ip", seeds[i], "--memory", "1200m", "--publish", "127.0.0.1::9042",
			"--env", "CASSANDRA_CLUSTER_NAME=flix", "--env", "CASSANDRA_DC="+r, "--env", "CASSANDRA_RACK=a", "--env", "CASSANDRA_ENDPOINT_SNITCH=GossipingPropertyFileSnitch",
			"--env", "CASSANDRA_SEEDS="+strings.Join(seeds, ","), "--env", "MAX_HEAP_SIZE=384M", "--env", "HEAP_NEWSIZE=96M",
			"--env", "JVM_EXTRA_OPTS=-Dcassandra.ring_delay_ms=1000 -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.superuser_setup_delay_ms=0", image); err != nil {
			return c, err
		}
	}
	return c, c.await()
}

// makeNetwork makes a network of a free subnet and returns its first three
// numbers. Addresses are fixed because the nodes need one another's.
func (c *cluster) makeNetwork() (string, error) {
	var errs []error
	for range 10 {
		b := make([]byte, 2)
		_, _ = rand.Read(b) // never fails
		subnet := fmt.Sprintf("10.%d.%d", 100+b[0]%100, b[1])
		_, err := dockertest.Run("network", "create", "--subnet", subnet+".0/24", c.network)
		if err == nil {
			return subnet, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// await returns when every node sees all of them up and the schema is there.
func (c *cluster) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	for i := range c.nodes {
		if err := c.awaitNode(ctx, i); err != nil {
			return err
		}
	}
	cfg := cassandra.Config{Hosts: c.hosts(0), Tel: telemetry.Discard()}
	return cassandra.Migrate(ctx, cfg, everywhere())
}

func (c *cluster) awaitNode(ctx context.Context, i int) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := c.state(ctx, i)
		if err == nil && len(s.Nodes) == len(regions) && s.Up()[east]+s.Up()[west]+s.Up()[europe] == len(regions) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			logs, _ := dockertest.Run("logs", "--tail", "20", c.nodes[i]) // only for the message
			return fmt.Errorf("%s is not up: %+v, %w\n%s", c.nodes[i], s, err, logs)
		}
	}
}

func (c *cluster) state(ctx context.Context, i int) (cassandra.State, error) {
	addr, err := c.addr(i)
	if err != nil {
		return cassandra.State{}, err
	}
	return cassandra.ReadState(ctx, addr, nil)
}

func everywhere() cassandra.Replication {
	return cassandra.Replication{east: 1, west: 1, europe: 1}
}

// addr is a node's address outside of its container; a restart changes it.
func (c *cluster) addr(i int) (string, error) {
	out, err := dockertest.Run("port", c.nodes[i], "9042/tcp")
	if err != nil {
		return "", err
	}
	addr, _, _ := strings.Cut(out, "\n")
	return addr, nil
}

func (c *cluster) hosts(i int) func() []string {
	return func() []string {
		addr, err := c.addr(i)
		if err != nil {
			return nil
		}
		return []string{addr}
	}
}

func (c *cluster) remove() error {
	var errs []error
	if len(c.nodes) > 0 {
		_, err := dockertest.Run(append([]string{"rm", "--force", "--volumes"}, c.nodes...)...)
		errs = append(errs, err)
	}
	_, err := dockertest.Run("network", "rm", c.network)
	return errors.Join(append(errs, err)...)
}

// do changes a node: pause, unpause, kill or start.
func (c *cluster) do(t testing.TB, verb string, i int) {
	t.Helper()
	if _, err := dockertest.Run(verb, c.nodes[i]); err != nil {
		t.Fatal(err)
	}
}

// client of a region's node, until the end of the test.
func (c *cluster) client(t testing.TB, i int, opts ...func(*cassandra.Config)) *cassandra.Store {
	t.Helper()
	cfg := cassandra.Config{
		Hosts: c.hosts(i), Datacenter: regions[i], Timing: topology.LabTiming(), Tel: telemetry.Discard(),
	}
	for _, o := range opts {
		o(&cfg)
	}
	s, err := cassandra.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// eventually polls for longer than kvtest does: nodes take their time.
func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		kvtest.Eventually(t, "the next look is due", due(20*time.Millisecond))
	}
}

func due(d time.Duration) func() bool {
	at := time.Now().Add(d)
	return func() bool { return time.Now().After(at) }
}
