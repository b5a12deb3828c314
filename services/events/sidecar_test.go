package events

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

// beside is a broker's sidecar.
type beside struct {
	sidecar *Sidecar
	tel     *telemetry.Telemetry
	changes chan bool
}

// newBeside starts a sidecar of the broker at target and waits until that
// serves.
func newBeside(t testing.TB, target string, retention time.Duration) *beside {
	t.Helper()
	b := &beside{tel: telemetry.Discard(), changes: make(chan bool, 16)}
	var err error
	if b.sidecar, err = NewSidecar(SidecarConfig{Target: target, Retention: retention, Tel: b.tel, OnHealth: func(up bool) { b.changes <- up }}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.sidecar.Serve(ctx) }()
	t.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}))
	ready, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := b.sidecar.Ready(ready); err != nil {
		t.Fatal(err)
	}
	return b
}

// change waits for the next change of health.
func (b *beside) change(t testing.TB, up bool) {
	t.Helper()
	for late := time.After(time.Minute); ; {
		select {
		case got := <-b.changes:
			if got == up {
				return
			}
		case <-late:
			t.Fatalf("nobody noticed that the broker is up: %v", up)
		}
	}
}

// shows waits until figures of a topic are as they should be: a broker that
// answers late shows none for once.
func (b *beside) shows(ctx context.Context, t testing.TB, name, topic string, ok func(sum float64, series int) bool) {
	t.Helper()
	var sum float64
	var n int
	until(ctx, t, name+" of "+topic, func() bool {
		sum, n = telemetrytest.Metric(t, b.tel.Metrics, name, map[string]string{"topic": topic})
		return ok(sum, n)
	})
}

func admin(t testing.TB, addr string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MetadataMinAge(metadataMinAge))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

func TestSidecarShowsTheBroker(t *testing.T) {
	b := newBroker(t)
	showsBroker(t, b, newBeside(t, b.addr, time.Hour))
}

// showsBroker checks the sidecar's figures against what was done to the
// broker, and what it did to its topics.
func showsBroker(t *testing.T, b *broker, s *beside) {
	ctx := soon(t)
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	for i := range 20 {
		if err := p.Send(ctx, TopicPlayback, fmt.Sprint("key", i), event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c := newCollector()
	stop := consume(t, ConsumerConfig{Brokers: b.brokers, Group: "shown", Topics: []string{TopicPlayback}, Handle: c.handle})
	c.wait(ctx, t, 20)
	stop()
	for _, w := range []struct {
		name, topic   string
		value         float64
		series, least int
	}{
		{"kafka_log_end_offset", TopicPlayback, 20, 4, 0}, {"kafka_log_start_offset", TopicPlayback, 0, 4, 0},
		{"kafka_group_lag", TopicPlayback, 0, 0, 1}, {"kafka_log_end_offset", TopicTitles, 0, 1, 0},
	} {
		s.shows(ctx, t, w.name, w.topic, func(v float64, n int) bool {
			return v == w.value && (w.series == 0 || n == w.series) && n >= w.least
		})
	}
	s.shows(ctx, t, "kafka_log_bytes", TopicPlayback, func(v float64, n int) bool { return v >= 1000 && n == 4 })
	if _, n := telemetrytest.Metric(t, s.tel.Metrics, "kafka_log_bytes", map[string]string{"topic": probeTopic}); n != 0 {
		t.Error("the sidecar shows its own topic")
	}
	configs, err := admin(t, b.addr).DescribeTopicConfigs(ctx, TopicPlayback)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range configs[0].Configs {
		got[c.Key] = c.MaybeValue()
	}
	if got["retention.ms"] != "3600000" || got["segment.ms"] != "360000" {
		t.Errorf("retention.ms %s, segment.ms %s; want an hour and a tenth of it", got["retention.ms"], got["segment.ms"])
	}
}

func TestSidecarFollowsItsBroker(t *testing.T) {
	b := newBroker(t)
	s := newBeside(t, b.addr, 0)
	s.change(t, true)
	b.stop()
	s.change(t, false)
	if _, n := telemetrytest.Metric(t, s.tel.Metrics, "kafka_log_end_offset", nil); n != 0 {
		t.Error("figures of a broker that is gone")
	}
	b.start()
	s.change(t, true)
}

// A broker that comes back with an empty disk gets its topics again.
func TestSidecarPreparesAnEmptyBroker(t *testing.T) {
	ctx, b := soon(t), newBroker(t)
	s := newBeside(t, b.addr, 0)
	s.change(t, true)
	adm := admin(t, b.addr)
	if _, err := adm.DeleteTopics(ctx, TopicFill, probeTopic); err != nil {
		t.Fatal(err)
	}
	for {
		topics, err := adm.ListTopics(ctx, TopicFill)
		if err == nil && topics.Has(TopicFill) && topics[TopicFill].Err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the topic is not there again: %v", errors.Join(err, topics[TopicFill].Err))
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func TestSidecarRefusesBadConfig(t *testing.T) {
	if _, err := NewSidecar(SidecarConfig{}); services.KindOf(err) != services.Invalid {
		t.Errorf("got %v", err)
	}
}
