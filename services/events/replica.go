package events

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// Copies of another region's topics are named as MirrorMaker 2 names them.

// ReplicaTopic names the copy of a region's topic in another region.
func ReplicaTopic(region, topic string) string { return region + "." + topic }

// BaseTopic takes the name of a topic apart: the region whose topic it copies,
// "" for a region's own, and the topic there.
func BaseTopic(topic string) (region, base string) {
	if region, base, ok := strings.Cut(topic, "."); ok {
		return region, base
	}
	return "", topic
}

// ReplicaGroup names the group that goes on for a region's group in another
// region, on the copies of its topics. It is a group of its own: the other
// region has its own members of the original one, and nobody may commit for a
// group that has members.
func ReplicaGroup(region, group string) string { return group + "." + region }

// ReplicatedTopics lists the topics that other regions keep copies of: those
// whose events are in one region only and change what a member sees. What a
// region's consumers have not handled when it is lost would be gone with it.
//
// That is TopicPlayback alone: a report that was not handled is a bookmark that
// was not written. TopicTitles is told in every region by its own cache
// control, with the same ids; TopicFill is statistics; nobody consumes
// TopicMembers, whose truth is the members' table.
func ReplicatedTopics() []string { return []string{TopicPlayback} }

// sourceHeader says where a copied record comes from: "region topic-id offset".
// It is the replicator's memory, too: the last record of a copy tells how far
// it got, and lies in the log with the data or not at all.
const sourceHeader = "flix-source"

// source is where a copied record comes from.
type source struct {
	region  string
	topicID kadm.TopicID
	offset  int64
}

func (s source) header() kgo.RecordHeader {
	return kgo.RecordHeader{Key: sourceHeader, Value: fmt.Appendf(nil, "%s %s %d", s.region, s.topicID, s.offset)}
}

// sourceOf reads where a record comes from; ok is false for one that was
// produced where it lies.
func sourceOf(r *kgo.Record) (s source, topicID string, ok bool) {
	for _, h := range r.Headers {
		if h.Key != sourceHeader {
			continue
		}
		f := strings.Fields(string(h.Value))
		if len(f) != 3 {
			return source{}, "", false
		}
		n, err := strconv.ParseInt(f[2], 10, 64)
		return source{region: f[0], offset: n}, f[1], err == nil
	}
	return source{}, "", false
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// cluster is a broker as replication needs it.
type cluster struct {
	brokers func(context.Context) ([]string, error)
	dial    services.DialFunc
	tel     *telemetry.Telemetry
	client  *kgo.Client
	adm     *kadm.Client
}

// connect makes a client; it connects when it is used.
func connect(id string, brokers func(context.Context) ([]string, error), dial services.DialFunc, tel *telemetry.Telemetry, opts ...kgo.Opt) (*cluster, error) {
	cl, err := kgo.NewClient(append(clientOpts(id, brokers, dial, tel), opts...)...)
	if err != nil {
		return nil, err
	}
	return &cluster{brokers: brokers, dial: dial, tel: tel, client: cl, adm: kadm.NewClient(cl)}, nil
}

func (c *cluster) close() { c.client.Close() }

// lookupTimeout bounds the reading of one record.
const lookupTimeout = 5 * time.Second

// at reads the record at an offset, or the first after it.
func (c *cluster) at(ctx context.Context, p place, offset int64) (*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	reader, err := connect("replicator-lookup", c.brokers, c.dial, c.tel,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{p.topic: {p.partition: kgo.NewOffset().At(offset)}}),
		kgo.FetchMaxWait(defaultFetchMaxWait), kgo.FetchMaxPartitionBytes(maxConsumedBytes/4))
	if err != nil {
		return nil, err
	}
	defer reader.close()
	for {
		fetches := reader.client.PollRecords(ctx, 1)
		if rs := fetches.Records(); len(rs) > 0 {
			return rs[0], nil
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("no record at %d of %s/%d: %w", offset, p.topic, p.partition, err)
		}
	}
}

// span is the offsets a partition holds: from start up to, not with, end.
type span struct{ start, end int64 }

// spans lists what the partitions of some topics hold.
func (c *cluster) spans(ctx context.Context, topics ...string) (map[place]span, error) {
	starts, err := c.adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := c.adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	out := map[place]span{}
	ends.Each(func(e kadm.ListedOffset) {
		s, ok := starts.Lookup(e.Topic, e.Partition)
		if !ok || s.Err != nil || e.Err != nil {
			err = fmt.Errorf("offsets of %s/%d: %w", e.Topic, e.Partition, errors.Join(s.Err, e.Err))
			return
		}
		out[place{e.Topic, e.Partition}] = span{s.Offset, e.Offset}
	})
	return out, err
}

// committed returns what a group has committed of a topic.
func (c *cluster) committed(ctx context.Context, group, topic string) (map[int32]int64, error) {
	offs, err := c.adm.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil // which brokers say, or not, of a group that nobody joined yet
	}
	if err != nil {
		return nil, err
	}
	out := map[int32]int64{}
	for p, o := range offs[topic] {
		if o.Err != nil {
			return nil, o.Err
		}
		if o.At >= 0 {
			out[p] = o.At
		}
	}
	return out, nil
}
