package events

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	lockFile = "flix.lock"
	// minSession is the shortest session timeout a consumer may ask for.
	minSession = time.Second
	// A record lives past its retention by a tenth of it at most, within
	// these bounds.
	minRetentionCheck = time.Second
	maxRetentionCheck = 10 * time.Minute
)

// ServerConfig is what an embedded Kafka broker needs.
type ServerConfig struct {
	// Dir holds the log; made if it is missing. One server at a time.
	Dir string
	// Listener to serve on, already bound. The server closes it.
	Listener net.Listener
	// Advertise is the host:port that clients are told; "" for the listener's
	// own address.
	Advertise string
	// Retention is how long records are kept; 0 keeps them for ever.
	Retention time.Duration
	// Topics to create where they are missing, with their partitions; nil for
	// Topics().
	Topics map[string]int32
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Server is a Kafka broker of one node. A record is in the kernel's hands before
// it is acknowledged, so none that was acknowledged is lost with the process.
// What a loss of power may cost is what it may cost Kafka itself, which leaves
// it to the kernel too when the log goes to the disk. It implements services.Unit.
type Server struct {
	cfg   ServerConfig
	guard *guard

	mu      sync.RWMutex // held while the cluster is asked, so that it is not closed meanwhile
	cluster *kfake.Cluster
}

// NewServer makes a broker; the log is opened by Serve.
func NewServer(c ServerConfig) (*Server, error) {
	if c.Dir == "" || c.Listener == nil || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "events.NewServer: Dir, Listener and Tel are required")
	}
	if c.Topics == nil {
		c.Topics = Topics()
	}
	s := &Server{cfg: c}
	var err error
	if s.guard, err = newGuard(c.Listener, c.Advertise); err != nil {
		return nil, err
	}
	c.Tel.Metrics.MustRegister(s)
	return s, nil
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	defer s.guard.shut()
	unlock, err := lockDir(s.cfg.Dir)
	if err != nil {
		return services.Wrap("events.Serve", err)
	}
	defer unlock()
	if err := s.open(); err != nil {
		return services.Wrap("events.Serve", err)
	}
	defer s.close()
	s.retain(ctx)
	return nil
}

// open starts the broker and creates the topics that are missing.
func (s *Server) open() error {
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.ClusterID("flix"),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return s.guard, nil }),
		kfake.DataDir(filepath.Join(s.cfg.Dir, "log")),
		kfake.GroupMinSessionTimeout(minSession),
		kfake.BrokerConfigs(s.brokerConfigs()),
	}
	// Seeded topics exist before the first connection is accepted, but only
	// in a new log.
	for topic, parts := range s.cfg.Topics {
		opts = append(opts, kfake.SeedTopics(parts, topic))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return err
	}
	for topic, parts := range s.cfg.Topics {
		if c.TopicInfo(topic) == nil {
			err = errors.Join(err, c.CreateTopic(topic, parts, nil))
		}
	}
	if err != nil {
		c.Close()
		return err
	}
	s.mu.Lock()
	s.cluster = c
	s.mu.Unlock()
	// Whoever sent to a topic before it was there would lose the event.
	s.guard.open()
	return nil
}

func (s *Server) brokerConfigs() map[string]string {
	ms := int64(-1)
	if s.cfg.Retention > 0 {
		ms = s.cfg.Retention.Milliseconds()
	}
	return map[string]string{"log.retention.ms": strconv.FormatInt(ms, 10)}
}

// retain drops expired records from time to time until ctx ends.
func (s *Server) retain(ctx context.Context) {
	if s.cfg.Retention <= 0 {
		<-ctx.Done()
		return
	}
	t := time.NewTicker(retentionCheck(s.cfg.Retention))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.cluster.ApplyRetention()
		}
	}
}

func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cluster.Close()
	s.cluster = nil
}

// Describe is prometheus.Collector's.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect reports the offsets of every partition, and the connections.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	conns := prometheus.NewDesc("kafka_connections", "Open connections.", nil, nil)
	ch <- prometheus.MustNewConstMetric(conns, prometheus.GaugeValue, float64(s.guard.count()))
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.cluster == nil {
		return
	}
	end := prometheus.NewDesc("kafka_log_end_offset", "Offset of the next record.", []string{"topic", "partition"}, nil)
	start := prometheus.NewDesc("kafka_log_start_offset", "Offset of the oldest record kept.", []string{"topic", "partition"}, nil)
	for topic := range s.cfg.Topics {
		for _, p := range s.cluster.PartitionInfos(topic) {
			n := strconv.Itoa(int(p.Partition))
			ch <- prometheus.MustNewConstMetric(end, prometheus.CounterValue, float64(p.HighWatermark), topic, n)
			ch <- prometheus.MustNewConstMetric(start, prometheus.CounterValue, float64(p.LogStartOffset), topic, n)
		}
	}
}

// lockDir makes the directory and keeps other servers out of it.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(services.Errorf(services.Conflict, "another broker uses %s", dir), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing releases the lock
}
