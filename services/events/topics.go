package events

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// maxSegment is Kafka's own bound of a segment's age.
const maxSegment = 7 * 24 * time.Hour

// topicConfig bounds how long records live. The segment's age is bounded, too:
// a broker drops whole segments only, and one that is still written to counts
// as young.
func topicConfig(retention time.Duration) map[string]*string {
	text := func(n int64) *string { s := strconv.FormatInt(n, 10); return &s }
	if retention <= 0 {
		return map[string]*string{"retention.ms": text(-1), "segment.ms": text(maxSegment.Milliseconds())}
	}
	segment := min(max(retention/10, minRetentionCheck), maxSegment)
	return map[string]*string{"retention.ms": text(retention.Milliseconds()), "segment.ms": text(segment.Milliseconds())}
}

// ensureTopics creates topics that are missing, adds partitions that are
// missing, and sets how long records are kept. It never removes anything.
func ensureTopics(ctx context.Context, adm *kadm.Client, topics map[string]int32, retention time.Duration) error {
	config := topicConfig(retention)
	have, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	var old []string
	for topic, parts := range topics {
		if !have.Has(topic) {
			r, err := adm.CreateTopic(ctx, parts, 1, config, topic)
			if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
				continue
			}
			return fmt.Errorf("topic %s: %w %s", topic, err, r.ErrMessage)
		}
		old = append(old, topic)
		if len(have[topic].Partitions) >= int(parts) {
			continue
		}
		r, err := adm.UpdatePartitions(ctx, int(parts), topic)
		if err == nil {
			err = r.Error()
		}
		if err != nil {
			return fmt.Errorf("partitions of topic %s: %w", topic, err)
		}
	}
	if len(old) == 0 {
		return nil
	}
	var alter []kadm.AlterConfig
	for name, value := range config {
		alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: value})
	}
	rs, err := adm.AlterTopicConfigs(ctx, alter, old...)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.Err != nil {
			return fmt.Errorf("configuration of topic %s: %w %s", r.Name, r.Err, r.ErrMessage)
		}
	}
	return nil
}
