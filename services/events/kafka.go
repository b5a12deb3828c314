package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What a container of Apache Kafka, the real broker, needs.
const (
	// BrokerPort is where the lab's instances reach it, inside its network.
	BrokerPort = 9092
	// BrokerHostPort is the port of the container that is published on the host
	// for clients outside the network.
	BrokerHostPort = 29092
	// BrokerDir is its data directory, where a volume should be mounted.
	BrokerDir = "/var/lib/kafka/data"

	controllerPort = 9093
	// brokerSession is how long the controller remembers a broker that was
	// killed: for so long a new start of it is refused.
	brokerSession   = 3 * time.Second
	brokerHeartbeat = 500 * time.Millisecond
)

// Broker is a Kafka of one node: broker and controller in one process.
type Broker struct {
	// NodeID of the broker, from 1.
	NodeID int
	// ClusterID is the cluster's, a UUID in URL-safe base64 (22 letters). It
	// must stay the same over restarts of a volume.
	ClusterID string
	// Internal is the host:port that clients in the container's network are
	// told, e.g. "us-east-kafka-1:9092".
	Internal string
	// External is the host:port that clients on the host are told, e.g.
	// "127.0.0.1:20017"; "" for no such listener.
	External string
	// Retention is how long records are kept unless their topic says otherwise;
	// 0 keeps them for ever.
	Retention time.Duration
}

// Environment returns the variables of an apache/kafka container (4.1) for a
// broker with a small heap and a fast start.
func Environment(b Broker) map[string]string {
	node := strconv.Itoa(b.NodeID)
	listeners := []string{fmt.Sprintf("INTERNAL://:%d", BrokerPort), fmt.Sprintf("CONTROLLER://localhost:%d", controllerPort)}
	advertised := []string{"INTERNAL://" + b.Internal}
	if b.External != "" {
		listeners = append(listeners, fmt.Sprintf("EXTERNAL://:%d", BrokerHostPort))
		advertised = append(advertised, "EXTERNAL://"+b.External)
	}
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	env := map[string]string{
		"CLUSTER_ID":                                     b.ClusterID,
		"KAFKA_NODE_ID":                                  node,
		"KAFKA_PROCESS_ROLES":                            "broker,controller",
		"KAFKA_LISTENERS":                                strings.Join(listeners, ","),
		"KAFKA_ADVERTISED_LISTENERS":                     strings.Join(advertised, ","),
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":           "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"KAFKA_INTER_BROKER_LISTENER_NAME":               "INTERNAL",
		"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
		"KAFKA_CONTROLLER_QUORUM_VOTERS":                 fmt.Sprintf("%s@localhost:%d", node, controllerPort),
		"KAFKA_BROKER_SESSION_TIMEOUT_MS":                ms(brokerSession),
		"KAFKA_BROKER_HEARTBEAT_INTERVAL_MS":             ms(brokerHeartbeat),
		"KAFKA_LOG_DIRS":                                 BrokerDir,
		"KAFKA_LOG_RETENTION_MS":                         "-1",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "1",
		// A handful of groups: 50 partitions would cost the first join a second.
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "2",
		// The first member of a group need not wait for others to come.
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
		"KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS":     ms(minSession),
		// By default the cleaner takes half of a small heap.
		"KAFKA_LOG_CLEANER_DEDUPE_BUFFER_SIZE": strconv.Itoa(2 << 20),
		"KAFKA_NUM_NETWORK_THREADS":            "2",
		"KAFKA_NUM_IO_THREADS":                 "2",
		"KAFKA_BACKGROUND_THREADS":             "2",
		"KAFKA_HEAP_OPTS":                      "-Xmx192m -Xms96m",
		"KAFKA_JVM_PERFORMANCE_OPTS":           "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
	}
	if b.Retention > 0 {
		env["KAFKA_LOG_RETENTION_MS"] = ms(b.Retention)
		env["KAFKA_LOG_RETENTION_CHECK_INTERVAL_MS"] = ms(retentionCheck(b.Retention))
		env["KAFKA_LOG_SEGMENT_DELETE_DELAY_MS"] = ms(minRetentionCheck)
	}
	return env
}

// retentionCheck is how often expired records are looked for.
func retentionCheck(retention time.Duration) time.Duration {
	return min(max(retention/10, minRetentionCheck), maxRetentionCheck)
}
