package events

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sidecar"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// probeTopic takes the sidecar's own records, which say that the broker can
	// write.
	probeTopic     = "flix.probe"
	probeRetention = time.Minute
	probeTimeout   = 3 * time.Second
	// internalPrefix marks the broker's own topics.
	internalPrefix = "__"
	// figuresTimeout bounds the questions of one look at the metrics.
	figuresTimeout = 2 * time.Second
)

// SidecarConfig is what the unit beside a real Kafka broker needs.
type SidecarConfig struct {
	// Target is the broker's host:port, of the listener whose advertised
	// address the sidecar can reach, too.
	Target string
	// Dial opens connections to it; nil for a plain dialer.
	Dial services.DialFunc
	// Retention is how long records are kept; 0 keeps them for ever.
	Retention time.Duration
	// Topics to create where they are missing, with their partitions; nil for
	// Topics().
	Topics map[string]int32
	// OnHealth is called when the broker begins and ceases to serve; may be
	// nil. See sidecar.Config.Changed.
	OnHealth func(healthy bool)
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Sidecar stands beside a Kafka broker that knows nothing of the lab: it
// creates the lab's topics, watches that records can be written, and shows
// offsets, sizes and the lag of consumer groups. Clients talk to the broker
// itself. It implements services.Unit.
//
// Of Server's metrics only kafka_connections is missing: the broker does not
// tell its connections on the wire.
type Sidecar struct {
	cfg      SidecarConfig
	watch    *sidecar.Watch
	client   *kgo.Client
	adm      *kadm.Client
	prepared atomic.Bool
}

// NewSidecar makes a sidecar; it asks the broker nothing yet. Whoever does not
// call Serve calls Close.
func NewSidecar(c SidecarConfig) (*Sidecar, error) {
	if c.Target == "" || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "events.NewSidecar: Target and Tel are required")
	}
	if c.Topics == nil {
		c.Topics = Topics()
	}
	s := &Sidecar{cfg: c}
	var err error
	brokers := func(context.Context) ([]string, error) { return []string{c.Target}, nil }
	opts := append(clientOpts("sidecar", brokers, c.Dial, c.Tel),
		kgo.DefaultProduceTopic(probeTopic), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
		// A probe that failed is not made good later: it must be possible to
		// give it up.
		kgo.DisableIdempotentWrite(), kgo.RecordDeliveryTimeout(probeTimeout), kgo.ProduceRequestTimeout(probeTimeout),
	)
	if s.client, err = kgo.NewClient(opts...); err != nil {
		return nil, services.Wrap("events.NewSidecar", err)
	}
	s.adm = kadm.NewClient(s.client)
	if s.watch, err = sidecar.New(sidecar.Config{Store: "kafka", Probe: s.probe, Timeout: probeTimeout, Changed: c.OnHealth, Tel: c.Tel}); err != nil {
		s.client.Close()
		return nil, err
	}
	c.Tel.Metrics.MustRegister(s)
	return s, nil
}

// Healthy says whether the broker serves: the lab's topics are there and
// records can be written.
func (s *Sidecar) Healthy() bool { return s.watch.Healthy() }

// Ready returns when the broker serves, or fails when ctx ends before.
func (s *Sidecar) Ready(ctx context.Context) error { return s.watch.Wait(ctx) }

// Serve watches the broker until ctx ends.
func (s *Sidecar) Serve(ctx context.Context) error {
	defer s.Close()
	s.watch.Run(ctx)
	return nil
}

// Close releases a sidecar that was never served. It is harmless after Serve.
func (s *Sidecar) Close() { s.client.Close() }

// probe prepares the broker's topics, unless that was done, and writes a
// record. A broker that failed may come back with another disk: it is prepared
// anew.
func (s *Sidecar) probe(ctx context.Context) error {
	if !s.prepared.Load() {
		if err := s.prepare(ctx); err != nil {
			return err
		}
	}
	r := kgo.KeySliceRecord([]byte(s.cfg.Tel.Instance), nil)
	if err := s.client.ProduceSync(ctx, r).FirstErr(); err != nil {
		s.prepared.Store(false)
		return err
	}
	s.prepared.Store(true)
	return nil
}

func (s *Sidecar) prepare(ctx context.Context) error {
	if err := ensureTopics(ctx, s.adm, s.cfg.Topics, s.cfg.Retention); err != nil {
		return err
	}
	return ensureTopics(ctx, s.adm, map[string]int32{probeTopic: 1}, probeRetention)
}

// Describe is prometheus.Collector's. The series depend on the broker's
// topics: none is described, so none is checked.
func (s *Sidecar) Describe(chan<- *prometheus.Desc) {}

// Collect asks the broker. While it does not serve there are no figures, and
// store_up is 0.
func (s *Sidecar) Collect(ch chan<- prometheus.Metric) {
	if !s.watch.Healthy() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), figuresTimeout)
	defer cancel()
	for what, collect := range map[string]func(context.Context, chan<- prometheus.Metric) error{"offsets": s.offsets, "sizes": s.sizes, "groups": s.lags} {
		if err := collect(ctx, ch); err != nil {
			s.cfg.Tel.Log.Warn("the broker's figures cannot be read", "what", what, "error", err)
		}
	}
}

func (s *Sidecar) offsets(ctx context.Context, ch chan<- prometheus.Metric) error {
	for _, q := range []struct {
		name, help string
		list       func(context.Context, ...string) (kadm.ListedOffsets, error)
	}{
		{"kafka_log_end_offset", "Offset of the next record.", s.adm.ListEndOffsets},
		{"kafka_log_start_offset", "Offset of the oldest record kept.", s.adm.ListStartOffsets},
	} {
		offs, err := q.list(ctx)
		if err != nil {
			return err
		}
		desc := prometheus.NewDesc(q.name, q.help, []string{"topic", "partition"}, nil)
		offs.Each(func(o kadm.ListedOffset) {
			if o.Err == nil && o.Topic != probeTopic {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(o.Offset), o.Topic, strconv.Itoa(int(o.Partition)))
			}
		})
	}
	return nil
}

func (s *Sidecar) sizes(ctx context.Context, ch chan<- prometheus.Metric) error {
	dirs, err := s.adm.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return err
	}
	desc := prometheus.NewDesc("kafka_log_bytes", "Bytes of the partition's log on disk.", []string{"topic", "partition"}, nil)
	for _, broker := range dirs {
		broker.EachPartition(func(p kadm.DescribedLogDirPartition) {
			if p.Topic != probeTopic && !p.IsFuture && !strings.HasPrefix(p.Topic, internalPrefix) {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(p.Size), p.Topic, strconv.Itoa(int(p.Partition)))
			}
		})
	}
	return nil
}

func (s *Sidecar) lags(ctx context.Context, ch chan<- prometheus.Metric) error {
	lags, err := s.adm.Lag(ctx)
	if err != nil {
		return err
	}
	desc := prometheus.NewDesc("kafka_group_lag", "Records of the partition that the group has not committed.", []string{"group", "topic", "partition"}, nil)
	for group, l := range lags {
		if l.Error() != nil {
			continue // it is just being made or dropped
		}
		for _, m := range l.Lag.Sorted() {
			if m.Err == nil {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(m.Lag), group, m.Topic, strconv.Itoa(int(m.Partition)))
			}
		}
	}
	return nil
}
