package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	defaultCheckpoint = time.Second
	// replicateGather is how long records gather after a poll before the next
	// one: each poll is a fetch over the WAN and a write into the own log. It is
	// of the order of the path's delay, which copies lag behind by anyway.
	replicateGather = 50 * time.Millisecond
	// replicateTimeout bounds a batch's way into the own log.
	replicateTimeout = 10 * time.Second
)

// ReplicateConfig is what copying another region's events needs.
type ReplicateConfig struct {
	// Region the records come from; their copies' topics begin with its name.
	Region string
	// From returns host:port of that region's brokers, FromDial opens
	// connections to them over the WAN; nil for a plain dialer.
	From     func(context.Context) ([]string, error)
	FromDial services.DialFunc
	// To returns host:port of the own region's brokers, ToDial opens
	// connections to them; nil for a plain dialer.
	To     func(context.Context) ([]string, error)
	ToDial services.DialFunc
	// Topics to copy; nil for ReplicatedTopics(). A copy is not copied.
	Topics []string
	// Groups of the other region whose positions are kept here, translated.
	Groups []string
	// Checkpoint is how often they are; 0 for 1 s.
	Checkpoint time.Duration
	// Retention of the copies; 0 keeps them for ever.
	Retention time.Duration
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// replicator copies the topics of one region.
type replicator struct {
	cfg     ReplicateConfig
	records *prometheus.CounterVec
	lag     *prometheus.GaugeVec

	mu     sync.Mutex
	next   map[place]pair  // by place in the source
	trails map[place]trail // of what was copied since resume, by place in the source

	settled settled // the checkpoints' alone
}

// pair is a position in the source and the position in the copy that follows
// the same records.
type pair struct{ source, copy int64 }

// Replicate copies records of another region's topics into topics of its own
// in this region's broker (ReplicaTopic), until ctx ends, and then returns nil.
// Keys, headers, times and partitions stay as they are, so records of a key
// keep their order; one that is a copy itself is not copied again.
//
// No record is lost, unless the other region drops it, by age, before it could
// be read, which events_replicated_total counts as missed. None is copied twice,
// unless two replicators of a pair of regions run at once: the last copied
// record says where to go on, and a topic that was made anew begins anew.
// Consumers need not trust that: the events carry their ids.
//
// Positions that Groups have committed in the other region are committed here
// for ReplicaGroup of it, in terms of the copies, as long as that group has no
// members. They never go back. A consumer of that group thus goes on where the
// lost region's stopped, less what the last checkpoint did not know, which
// comes again.
func Replicate(ctx context.Context, c ReplicateConfig) error {
	if c.Region == "" || c.From == nil || c.To == nil || c.Tel == nil {
		return services.Errorf(services.Invalid, "events.Replicate: Region, From, To and Tel are required")
	}
	if c.Topics == nil {
		c.Topics = ReplicatedTopics()
	}
	for _, t := range c.Topics {
		if region, _ := BaseTopic(t); region != "" {
			return services.Errorf(services.Invalid, "events.Replicate: %s is a copy itself: name the topics of region %s only", t, c.Region)
		}
	}
	if strings.Contains(c.Region, ".") {
		return services.Errorf(services.Invalid, "events.Replicate: region %s: a name with a dot cannot be told from its topic", c.Region)
	}
	if c.Checkpoint <= 0 {
		c.Checkpoint = defaultCheckpoint
	}
	r := &replicator{
		cfg:     c,
		records: counterVec(c.Tel.Metrics, "events_replicated_total", "Events of other regions, by result: copied, skipped (a copy itself), missed (dropped before it was read).", "region", "topic", "result"),
		lag:     gaugeVec(c.Tel.Metrics, "events_replication_lag", "Events of the other region's partition not copied yet.", "region", "topic", "partition"),
	}
	for n := 1; ctx.Err() == nil; n++ {
		start := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			break
		}
		// A region out of reach is no news every quarter of a second.
		c.Tel.Log.Debug("replication starts anew", "region", c.Region, "error", err)
		if time.Since(start) > time.Minute {
			n = 1
		}
		pause(ctx, backoff(n))
	}
	return nil
}

// session copies until something fails.
func (r *replicator) session(ctx context.Context) error {
	to, err := connect("replicator", r.cfg.To, r.cfg.ToDial, r.cfg.Tel,
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer to.close()
	from, err := connect("replicator", r.cfg.From, r.cfg.FromDial, r.cfg.Tel,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{}), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(defaultFetchMaxWait), kgo.FetchMaxBytes(maxConsumedBytes), kgo.FetchMaxPartitionBytes(maxConsumedBytes/4))
	if err != nil {
		return err
	}
	defer from.close()
	ids, err := r.resume(ctx, from, to)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.copy(ctx, from, to, ids) })
	g.Go(func() error { return r.checkpoints(ctx, from, to) })
	return g.Wait()
}

// resume finds where each partition's copy got to, and lets from read on there.
func (r *replicator) resume(ctx context.Context, from, to *cluster) (ids map[string]kadm.TopicID, err error) {
	topics, err := from.adm.ListTopics(ctx, r.cfg.Topics...)
	if err != nil {
		return nil, err
	}
	ids, parts := map[string]kadm.TopicID{}, map[string]int32{}
	for _, t := range r.cfg.Topics {
		if d := topics[t]; d.Err != nil || len(d.Partitions) == 0 {
			return nil, fmt.Errorf("topic %s of region %s: %w", t, r.cfg.Region, cmp.Or(d.Err, error(kerr.UnknownTopicOrPartition)))
		}
		ids[t], parts[ReplicaTopic(r.cfg.Region, t)] = topics[t].ID, int32(len(topics[t].Partitions))
	}
	if err := ensureTopics(ctx, to.adm, parts, r.cfg.Retention); err != nil {
		return nil, err
	}
	sources, err := from.spans(ctx, r.cfg.Topics...)
	if err != nil {
		return nil, err
	}
	copies, err := to.spans(ctx, slices.Collect(maps.Keys(parts))...)
	if err != nil {
		return nil, err
	}
	next, consume := map[place]pair{}, map[string]map[int32]kgo.Offset{}
	for p, s := range sources {
		c := place{ReplicaTopic(r.cfg.Region, p.topic), p.partition}
		n := pair{source: s.start, copy: copies[c].end}
		if copies[c].end > copies[c].start {
			last, err := to.at(ctx, c, copies[c].end-1)
			if err != nil {
				return nil, err
			}
			if src, id, ok := sourceOf(last); ok && id == ids[p.topic].String() {
				n.source = src.offset + 1
			}
		}
		next[p] = n
		if consume[p.topic] == nil {
			consume[p.topic] = map[int32]kgo.Offset{}
		}
		consume[p.topic][p.partition] = kgo.NewOffset().At(n.source)
	}
	r.mu.Lock()
	r.next, r.trails = next, map[place]trail{}
	r.mu.Unlock()
	from.client.AddConsumePartitions(consume)
	return ids, nil
}

// copy hands records on until something fails.
func (r *replicator) copy(ctx context.Context, from, to *cluster, ids map[string]kadm.TopicID) error {
	for {
		fetches := from.client.PollRecords(ctx, pollRecords)
		if err := ctx.Err(); err != nil {
			return err
		}
		polled := time.Now()
		// What the library cannot mend, a new session does: it looks again at
		// what topics there are.
		for _, e := range fetches.Errors() {
			if !kerr.IsRetriable(e.Err) || errors.Is(e.Err, kerr.UnknownTopicOrPartition) || errors.Is(e.Err, kerr.UnknownTopicID) || errors.Is(e.Err, kerr.InconsistentTopicID) {
				return fmt.Errorf("%s/%d of region %s: %w", e.Topic, e.Partition, r.cfg.Region, e.Err)
			}
		}
		if err := r.put(ctx, to, ids, fetches); err != nil {
			return err
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			r.mu.Lock()
			n := r.next[place{p.Topic, p.Partition}]
			r.mu.Unlock()
			r.lag.WithLabelValues(r.cfg.Region, p.Topic, strconv.Itoa(int(p.Partition))).Set(float64(max(0, p.HighWatermark-n.source)))
		})
		gather(ctx, polled, replicateGather)
	}
}

// put writes a poll's records into the copies and moves the positions.
func (r *replicator) put(ctx context.Context, to *cluster, ids map[string]kadm.TopicID, fetches kgo.Fetches) error {
	var out []*kgo.Record
	var sources []int64 // offsets of out
	moved := map[place]pair{}
	fetches.EachRecord(func(k *kgo.Record) {
		p := place{k.Topic, k.Partition}
		n, known := moved[p]
		if !known {
			r.mu.Lock()
			n = r.next[p]
			r.mu.Unlock()
		}
		if k.Offset > n.source {
			r.count(k.Topic, "missed", k.Offset-n.source)
			r.cfg.Tel.Log.Error("events of another region were dropped before they were copied", "region", r.cfg.Region, "topic", k.Topic, "partition", k.Partition, "from", n.source, "to", k.Offset)
		}
		n.source = k.Offset + 1
		moved[p] = n
		if _, _, copied := sourceOf(k); copied {
			r.count(k.Topic, "skipped", 1)
			return
		}
		sources = append(sources, k.Offset)
		out = append(out, &kgo.Record{
			Topic: ReplicaTopic(r.cfg.Region, k.Topic), Partition: k.Partition, Key: k.Key, Value: k.Value, Timestamp: k.Timestamp,
			Headers: append(slices.Clone(k.Headers), source{r.cfg.Region, ids[k.Topic], k.Offset}.header()),
		})
	})
	if len(out) > 0 {
		pctx, cancel := context.WithTimeout(ctx, replicateTimeout)
		defer cancel()
		for _, res := range to.client.ProduceSync(pctx, out...) {
			if res.Err != nil {
				return fmt.Errorf("copy into %s/%d: %w", res.Record.Topic, res.Record.Partition, res.Err)
			}
			_, base := BaseTopic(res.Record.Topic)
			p := place{base, res.Record.Partition}
			n := moved[p]
			n.copy = max(n.copy, res.Record.Offset+1)
			moved[p] = n
			r.count(base, "copied", 1)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, n := range moved {
		r.next[p] = n
	}
	for i, k := range out {
		_, base := BaseTopic(k.Topic)
		p := place{base, k.Partition}
		r.trails[p] = r.trails[p].with(pair{sources[i], k.Offset})
	}
	return nil
}

func (r *replicator) count(topic, result string, n int64) {
	r.records.WithLabelValues(r.cfg.Region, topic, result).Add(float64(n))
}
