package containers

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/services/evcache"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/objects"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// storeOf says which component serves a role.
var storeOf = map[topology.Role]images.Component{
	topology.RoleKV: images.Cassandra, topology.RoleKafka: images.Kafka, topology.RoleSQL: images.MariaDB,
	topology.RoleEVCache: images.Memcached, topology.RoleSearch: images.OpenSearch, topology.RoleS3: images.S3,
}

// isStore says whether a role is served by a real store.
func isStore(r topology.Role) bool { return storeOf[r] != "" }

// slowness orders the starts of stores: those that take longest come first.
func slowness(role string) int {
	switch topology.Role(role) {
	case topology.RoleKV:
		return 3
	case topology.RoleSearch:
		return 2
	case topology.RoleKafka:
		return 1
	}
	return 0
}

// store declares the container of a store. The caller holds r.mu.
func (r *Runtime) store(ctx context.Context, s runtime.Spec) (declaration, error) {
	image, err := r.component(ctx, storeOf[s.Role])
	if err != nil {
		return declaration{}, err
	}
	d := declaration{ID: s.ID, Region: s.Region, Host: s.Region, Role: string(s.Role), Address: s.Address, Image: image, Specs: []runtime.Spec{s}, Grace: 10}
	size := r.world.Topology.Containers.Profile.Sizes()
	key, err := token.NewKey(r.world.ID, r.world.Key)
	if err != nil {
		return d, err
	}
	rpc := strconv.Itoa(s.PortNumbers[topology.PortRPC])
	switch s.Role {
	case topology.RoleKV:
		r.cassandra(&d, s, size)
	case topology.RoleKafka:
		d.Memory, d.Volume = int64(size.Kafka), events.BrokerDir
		d.Env = r.kafkaEnv(s, size)
	case topology.RoleSQL:
		d.Memory, d.Volume = int64(size.MariaDB), "/var/lib/mysql"
		r.mariadb(&d, s, key)
	case topology.RoleEVCache:
		d.Memory = int64(size.Memcached)
		d.Cmd = append(evcache.Command(int64(size.MemcachedItems)), "-l", s.Address, "-p", rpc)
	case topology.RoleSearch:
		d.Memory, d.Volume = int64(size.OpenSearch), "/usr/share/opensearch/data"
		d.Env = openSearchEnv(s, size)
	case topology.RoleS3:
		d.Memory, d.Volume = int64(size.S3), dataDir
		r.s3(&d, s, key)
	default:
		return d, fmt.Errorf("%s: no component serves role %s", s.ID, s.Role)
	}
	return d, nil
}

// cassandra: one cluster, a datacentre per region. Other regions' nodes reach
// this one at its broadcast address, which is the WAN proxy of its sidecar; the
// storage port tells the nodes behind one proxy apart. Every node is a seed for
// all: in a fresh cluster each goes on alone when no other answers yet, and they
// find one another by gossip; one that is no seed would end after the ring delay.
//
// That is cut to a second for the sake of the start. Half of the quarantine,
// which would follow it down, is how long a node that has not joined yet may be
// silent before it is given up for good, as a seed too: it stays longer than a
// starved machine makes a starting JVM pause.
//
// A memtable's overhead is measured over a thousand rows instead of a hundred
// thousand, which every start would spend six seconds of a processor on.
func (r *Runtime) cassandra(d *declaration, s runtime.Spec, size topology.Sizes) {
	d.Memory, d.Volume = int64(size.Cassandra), "/var/lib/cassandra"
	var seeds []string
	for _, peer := range r.world.StoresOf(topology.RoleKV) {
		seeds = append(seeds, peer.Addr(topology.PortReplication))
	}
	slices.Sort(seeds)
	heap := strconv.FormatInt(int64(size.CassandraHeap)>>20, 10) + "M"
	jmx := 7199 // where nodetool looks
	if r.hostNetwork() {
		jmx = s.PortNumbers[topology.PortAdmin] // nodes would meet there
	}
	d.Env = map[string]string{
		"CASSANDRA_CLUSTER_NAME": "flix", "CASSANDRA_DC": s.Region, "CASSANDRA_RACK": s.Zone,
		"CASSANDRA_ENDPOINT_SNITCH": "GossipingPropertyFileSnitch", "CASSANDRA_SEEDS": strings.Join(seeds, ","),
		"CASSANDRA_LISTEN_ADDRESS": s.Address, "CASSANDRA_BROADCAST_ADDRESS": s.Where(topology.PortReplication),
		"CASSANDRA_RPC_ADDRESS":           s.Address, // not every address: on the host's network that is the machine's
		"CASSANDRA_BROADCAST_RPC_ADDRESS": s.Address,
		"MAX_HEAP_SIZE":                   heap, "HEAP_NEWSIZE": strconv.FormatInt(int64(size.CassandraHeap)>>22, 10) + "M",
		// Not cassandra.test.flush_local_schema_changes=false, although each change
		// of the schema then takes a quarter of the time: a node reads its schema
		// before it replays its log, so one that is killed would lose both.
		"JVM_EXTRA_OPTS": fmt.Sprintf("-Dcassandra.storage_port=%d -Dcassandra.native_transport_port=%d -Dcassandra.jmx.local.port=%d -Dcassandra.ring_delay_ms=1000 -Dcassandra.gossip_quarantine_delay_ms=30000 -Dcassandra.auto_bootstrap=false -Dcassandra.memtable_row_overhead_computation_step=1000 -XX:TieredStopAtLevel=1",
			s.PortNumbers[topology.PortReplication], s.PortNumbers[topology.PortRPC], jmx),
	}
}

// kafkaEnv: a broker that is its own controller. It listens on the instance's
// port, which clients inside the lab and this machine's reach alike.
func (r *Runtime) kafkaEnv(s runtime.Spec, size topology.Sizes) map[string]string {
	addr := s.Addr(topology.PortRPC)
	env := events.Environment(events.Broker{
		NodeID: 1, ClusterID: clusterID(r.world.ID + s.Region), Internal: addr, Retention: r.world.Topology.Timing.KafkaRetention.D(),
	})
	controller := net.JoinHostPort(s.Address, "9093")
	env["KAFKA_LISTENERS"] = "INTERNAL://" + addr + ",CONTROLLER://" + controller
	env["KAFKA_CONTROLLER_QUORUM_VOTERS"] = "1@" + controller
	heap := strconv.FormatInt(int64(size.KafkaHeap)>>20, 10) + "m"
	env["KAFKA_HEAP_OPTS"] = "-Xms" + heap + " -Xmx" + heap
	return env
}

func openSearchEnv(s runtime.Spec, size topology.Sizes) map[string]string {
	heap := strconv.FormatInt(int64(size.OpenSearchHeap)>>20, 10) + "m"
	return map[string]string{
		"discovery.type": "single-node", "DISABLE_SECURITY_PLUGIN": "true", "DISABLE_INSTALL_DEMO_CONFIG": "true",
		"http.port": strconv.Itoa(s.PortNumbers[topology.PortRPC]), "network.host": s.Address,
		"OPENSEARCH_JAVA_OPTS": "-Xms" + heap + " -Xmx" + heap + " -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
		// A full disk of the machine is no reason to refuse a lab's documents.
		"cluster.routing.allocation.disk.threshold_enabled": "false",
	}
}

// mariadb: the servers are alike until their keepers make one the primary. Its
// id is its region's block, which no other region has.
func (r *Runtime) mariadb(d *declaration, s runtime.Spec, key token.Key) {
	profile := mariadb.Small
	if p := r.world.Topology.Containers.Profile; p != "" && p != topology.Small {
		profile = mariadb.Durable
	}
	d.Cmd = append(mariadb.Options(r.places.blocks[s.Region], profile), "--port="+strconv.Itoa(s.PortNumbers[topology.PortRPC]), "--bind-address="+s.Address)
	d.Env = mariadb.Environment(Accounts(key))
}

// Accounts of the lab's SQL servers; the passwords are derived from its key.
func Accounts(key token.Key) mariadb.Accounts {
	return mariadb.Accounts{
		RootPassword: key.Secret("sql root"), Database: "flix", User: "flix", Password: key.Secret("sql"),
		ReplicationUser: "flix_replica", ReplicationPassword: key.Secret("sql replication"),
	}
}

// s3: versitygw over a folder. Its access log goes to the sidecar, which counts
// what it served.
func (r *Runtime) s3(d *declaration, s runtime.Spec, key token.Key) {
	d.Volume, d.Cmd = objects.StoreDir, objects.Command()
	d.Env = objects.Environment(AccessKey, key.Secret(token.S3))
	d.Env["VGW_PORT"] = net.JoinHostPort(s.Address, strconv.Itoa(objects.StorePort))
}

// AccessKey is the user name of the lab's object stores; the secret is derived
// from the lab's key.
const AccessKey = "flix"

// clusterID is a Kafka cluster's id: 16 bytes in base64.
func clusterID(seed string) string {
	sum := sha256.Sum256([]byte(seed))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
