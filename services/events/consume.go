package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// A fetch that finds nothing is held until a record comes, so this delays
	// none. It bounds how long a partition that is new to a client waits for the
	// fetch of the others to end, and how often an idle client asks in vain.
	defaultFetchMaxWait = time.Second
	// A member that died without leaving is missed after the session timeout.
	sessionTimeout    = 6 * time.Second
	heartbeatInterval = time.Second
	// rebalanceTimeout is how long others wait for a member in a rebalance.
	rebalanceTimeout = 20 * time.Second
	defaultPatience  = 8 * time.Second
	// pollRecords bounds the records handled between two commits.
	pollRecords          = 256
	defaultCommitTimeout = time.Second
	// goodbye bounds the leaving of the group.
	goodbye = time.Second
)

// Record is one event as it lies in the log.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       string
	Value     []byte
	// Time is when it was produced.
	Time time.Time
}

// Decode reads the event of a record. It fails with services.Invalid, which a
// handler can return as it is.
func Decode[T any](r Record) (T, error) {
	var v T
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return v, services.Errorf(services.Invalid, "%s/%d at %d is not an event of its topic: %v", r.Topic, r.Partition, r.Offset, err)
	}
	return v, nil
}

// ConsumerConfig is what a consumer needs.
type ConsumerConfig struct {
	// Brokers returns host:port of the region's brokers. It is asked for new
	// connections and should answer from memory.
	Brokers func(context.Context) ([]string, error)
	// Group shares the partitions of the topics among its members and keeps
	// what has been handled. A new group begins at the oldest record.
	Group string
	// Topics to read.
	Topics []string
	// Dial opens connections; nil for a plain dialer.
	Dial services.DialFunc
	// ClientID names the client to the broker; "" for the group's name.
	ClientID string
	// FetchMaxWait is how long the broker holds a fetch that finds nothing;
	// 0 for 1 s.
	FetchMaxWait time.Duration
	// Patience is how long a member goes on retrying one record before it gives
	// its partitions up and joins anew, so that the group is not held up; 0 for
	// 8 s. It must be well below 20 s, the group's rebalance timeout.
	Patience time.Duration
	// CommitTimeout bounds one commit; 0 for 1 s. One that fails is made good by
	// the next.
	CommitTimeout time.Duration
	// Gather is how long records gather after a poll before the next one, so that
	// a busy consumer does not fetch and commit each by itself; 0 for not at all.
	// A record that comes after a pause is handled at once.
	Gather time.Duration
	// Lanes is how many records are handled at once; 0 for one. With more than
	// one it is the records of a key that come in order, one at a time, and not
	// those of a partition.
	Lanes int
	// Handle handles one record; those of a partition come in order, one at a
	// time. A record whose handling fails comes again until it succeeds,
	// unless the error is services.Invalid: such a record can never be
	// handled, so it is counted, logged and passed over. A record may come
	// again also after it was handled: see Seen.
	Handle func(context.Context, Record) error
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// consumer is one membership in a group.
type consumer struct {
	cfg      ConsumerConfig
	consumed *prometheus.CounterVec
	lag      *prometheus.GaugeVec
}

var (
	// errStuck ends a membership whose handler fails for too long.
	errStuck = errors.New("the handler keeps failing")
	// errConfig ends Consume: joining again would fail again.
	errConfig = errors.New("the configuration is refused")
)

// Consume reads events until ctx ends, then returns nil. It reconnects and
// joins the group again for ever; it fails only for a wrong configuration.
func Consume(ctx context.Context, c ConsumerConfig) error {
	if c.Brokers == nil || c.Handle == nil || c.Tel == nil || c.Group == "" || len(c.Topics) == 0 {
		return services.Errorf(services.Invalid, "events.Consume: Brokers, Group, Topics, Handle and Tel are required")
	}
	if c.FetchMaxWait <= 0 {
		c.FetchMaxWait = defaultFetchMaxWait
	}
	if c.Patience <= 0 {
		c.Patience = defaultPatience
	}
	if c.CommitTimeout <= 0 {
		c.CommitTimeout = defaultCommitTimeout
	}
	if c.ClientID == "" {
		c.ClientID = c.Group
	}
	m := &consumer{
		cfg:      c,
		consumed: counterVec(c.Tel.Metrics, "events_consumed_total", "Events read, by result: ok, retried, invalid.", "group", "topic", "result"),
		lag:      gaugeVec(c.Tel.Metrics, "events_consumer_lag", "Events of the partition not handled yet.", "group", "topic", "partition"),
	}
	for n := 1; ctx.Err() == nil; n++ {
		err := m.member(ctx)
		if errors.Is(err, errConfig) {
			return services.Errorf(services.Invalid, "events.Consume: %v", err)
		}
		if err != nil && ctx.Err() == nil {
			c.Tel.Log.Warn("consumer joins its group anew", "group", c.Group, "error", err)
		}
		pause(ctx, backoff(n))
	}
	return nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// gather waits until d has passed since a poll, or ctx ends.
func gather(ctx context.Context, polled time.Time, d time.Duration) {
	if left := d - time.Since(polled); left > 0 {
		pause(ctx, left)
	}
}

// member joins the group and handles records until ctx ends or the handler
// keeps failing.
func (m *consumer) member(ctx context.Context) error {
	c := m.cfg
	opts := append(clientOpts(c.ClientID, c.Brokers, c.Dial, c.Tel),
		kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Topics...),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(sessionTimeout), kgo.HeartbeatInterval(heartbeatInterval), kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.FetchMaxWait(c.FetchMaxWait), kgo.FetchMaxBytes(maxConsumedBytes), kgo.FetchMaxPartitionBytes(maxConsumedBytes/4), kgo.MaxConcurrentFetches(1),
		kgo.OnPartitionsRevoked(m.forget), kgo.OnPartitionsLost(m.forget),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	defer m.leave(cl)
	for fails := 0; ; {
		fetches := cl.PollRecords(ctx, pollRecords)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil
		}
		polled := time.Now()
		done, err := m.handleAll(ctx, fetches)
		if cerr := m.commit(ctx, cl, done); cerr != nil {
			c.Tel.Log.Debug("commit failed: events may come again", "group", c.Group, "error", cerr)
		}
		cl.AllowRebalance()
		if err != nil {
			return err
		}
		if fails++; len(fetches.Errors()) == 0 {
			fails = 0
			gather(ctx, polled, c.Gather)
			continue
		}
		// The library retries what can be retried; without a pause an error
		// that stays would make this loop spin.
		pause(ctx, backoff(fails))
	}
}

// leave gives the partitions back at once, if the broker can be reached.
func (m *consumer) leave(cl *kgo.Client) {
	cl.AllowRebalance()
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	if err := cl.LeaveGroupContext(ctx); err != nil {
		m.cfg.Tel.Log.Debug("the group was not left in order", "group", m.cfg.Group, "error", err)
	}
	cl.CloseAllowingRebalance()
}

// handleAll handles the records of a poll and returns the last one handled of
// each partition.
func (m *consumer) handleAll(ctx context.Context, fetches kgo.Fetches) (done []*kgo.Record, err error) {
	if m.cfg.Lanes > 1 {
		return m.handleLanes(ctx, fetches)
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		var last *kgo.Record
		for _, r := range p.Records {
			if err != nil {
				break
			}
			m.setLag(p, r.Offset)
			if err = m.handle(ctx, r); err == nil {
				last = r
			}
		}
		if last != nil {
			m.setLag(p, last.Offset+1)
			done = append(done, last)
		}
	})
	return done, err
}

func (m *consumer) setLag(p kgo.FetchTopicPartition, next int64) {
	m.lag.WithLabelValues(m.cfg.Group, p.Topic, strconv.Itoa(int(p.Partition))).Set(float64(max(0, p.HighWatermark-next)))
}

// forget drops the lag of partitions that now belong to another member.
func (m *consumer) forget(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	for topic, parts := range lost {
		for _, p := range parts {
			m.lag.DeleteLabelValues(m.cfg.Group, topic, strconv.Itoa(int(p)))
		}
	}
}

// handle calls the handler until it succeeds, ctx ends or patience does.
func (m *consumer) handle(ctx context.Context, kr *kgo.Record) error {
	r := Record{Topic: kr.Topic, Partition: kr.Partition, Offset: kr.Offset, Key: string(kr.Key), Value: kr.Value, Time: kr.Timestamp}
	until := time.Now().Add(m.cfg.Patience)
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := m.handleOnce(ctx, kr, r)
		switch {
		case err == nil:
			m.count(r, "ok")
			return nil
		case services.KindOf(err) == services.Invalid:
			m.count(r, "invalid")
			m.cfg.Tel.Log.Error("event passed over", "group", m.cfg.Group, "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
			return nil
		}
		m.count(r, "retried")
		m.cfg.Tel.Log.Debug("event comes again", "group", m.cfg.Group, "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
		if time.Now().After(until) {
			return fmt.Errorf("%w: %w", errStuck, err)
		}
		pause(ctx, backoff(n))
	}
}

func (m *consumer) count(r Record, result string) {
	m.consumed.WithLabelValues(m.cfg.Group, r.Topic, result).Inc()
}

// handleOnce calls the handler in a span that continues the producer's trace.
func (m *consumer) handleOnce(ctx context.Context, kr *kgo.Record, r Record) error {
	ctx = telemetry.Propagator.Extract(ctx, headers{kr})
	ctx, span := m.cfg.Tel.Tracer.Start(ctx, "consume "+r.Topic, trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("messaging.consumer.group.name", m.cfg.Group), attribute.Int64("messaging.kafka.offset", r.Offset)))
	err := m.cfg.Handle(ctx, r)
	telemetry.End(span, err)
	return err
}

// commit tells the group what has been handled. The end of ctx does not cut it
// short: what is handled but not committed would come again.
func (m *consumer) commit(ctx context.Context, cl *kgo.Client, done []*kgo.Record) error {
	if len(done) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.CommitTimeout)
	defer cancel()
	return cl.CommitRecords(ctx, done...)
}

// gaugeVec registers gauges, or returns those that another consumer of the
// instance has registered already.
func gaugeVec(r prometheus.Registerer, name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	var known prometheus.AlreadyRegisteredError
	if err := r.Register(v); errors.As(err, &known) {
		if old, ok := known.ExistingCollector.(*prometheus.GaugeVec); ok {
			return old
		}
	}
	return v
}
