package containers

import (
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// TestCassandraNodes: with two nodes in a region the second ended at its start,
// because only first nodes were seeds and its own had not started yet; starved
// nodes gave the others up for good after half a second of silence; and on the
// machine's own network CQL was open to every address of it.
func TestCassandraNodes(t *testing.T) {
	r := newOdd(t).runtime(topology.Containers{Profile: topology.Standard, Network: topology.HostNetwork})
	node := func(region string, n int, address string) runtime.Spec {
		return runtime.Spec{
			Instance: topology.Instance{ID: topology.InstanceID(region, "a", topology.RoleKV, n), Region: region, Zone: "a", Role: topology.RoleKV, Number: n},
			Address:  address, Sidecar: true, PortNumbers: map[string]int{topology.PortRPC: 20000 + n, topology.PortReplication: 20010 + n, topology.PortAdmin: 20020 + n},
		}
	}
	r.world.Stores = []runtime.Spec{node("north", 1, "127.5.1.1"), node("north", 2, "127.5.1.2"), node("south", 1, "127.5.2.1"), node("south", 2, "127.5.2.2")}
	for _, s := range r.world.Stores {
		var d declaration
		r.cassandra(&d, s, topology.Standard.Sizes())
		if got, want := d.Env["CASSANDRA_SEEDS"], "127.5.1.1:20011,127.5.1.2:20012,127.5.2.1:20011,127.5.2.2:20012"; got != want {
			t.Errorf("%s has the seeds %s, want %s", s.ID, got, want)
		}
		for _, name := range []string{"CASSANDRA_RPC_ADDRESS", "CASSANDRA_LISTEN_ADDRESS", "CASSANDRA_BROADCAST_RPC_ADDRESS"} {
			if d.Env[name] != s.Address {
				t.Errorf("%s: %s is %q, want %s", s.ID, name, d.Env[name], s.Address)
			}
		}
		if strings.Contains(d.Env["JVM_EXTRA_OPTS"], "flush_local_schema_changes") {
			t.Errorf("%s would lose its schema when it is killed: %s", s.ID, d.Env["JVM_EXTRA_OPTS"])
		}
		for _, opt := range []string{"-Dcassandra.ring_delay_ms=1000", "-Dcassandra.gossip_quarantine_delay_ms=30000", "-Dcassandra.auto_bootstrap=false"} {
			if !strings.Contains(d.Env["JVM_EXTRA_OPTS"], opt) {
				t.Errorf("%s lacks %s: %s", s.ID, opt, d.Env["JVM_EXTRA_OPTS"])
			}
		}
	}
}
