package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is an embedded server that a test can stop and start again on the
// same address and directory.
type broker struct {
	t    testing.TB
	dir  string
	addr string
	tel  *telemetry.Telemetry
	stop func()
	// real is set for a broker in a container.
	real *container
}

func newBroker(t testing.TB) *broker {
	b := &broker{t: t, dir: t.TempDir(), addr: addresstest.Host(t) + ":0"}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *broker) start() {
	b.t.Helper()
	if b.real != nil {
		b.real.restart(b.t)
		return
	}
	ln, err := net.Listen("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	if addr := ln.Addr().String(); b.addr != addr {
		b.addr = addr // written once: clients read it while the broker restarts
	}
	b.tel = telemetry.Discard()
	s, err := NewServer(ServerConfig{Dir: b.dir, Listener: ln, Tel: b.tel, Retention: time.Hour})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("Serve: %v", err)
		}
	})
}

func (b *broker) brokers(context.Context) ([]string, error) { return []string{b.addr}, nil }

func newProducer(t testing.TB, c ProducerConfig) *Producer {
	t.Helper()
	if c.Tel == nil {
		c.Tel = telemetry.Discard()
	}
	p, err := NewProducer(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// soon is a context that ends the test's waiting.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func event(id string) PlaybackEvent {
	return PlaybackEvent{Header: Header{ID: id, At: time.Now()}, Kind: "start", Session: "s-" + id}
}

// collector is a handler that keeps the ids it was given.
type collector struct {
	mu  sync.Mutex
	ids []string
	got chan string
}

func newCollector() *collector { return &collector{got: make(chan string, 1000)} }

func (c *collector) handle(_ context.Context, r Record) error {
	e, err := Decode[PlaybackEvent](r)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.ids = append(c.ids, e.ID)
	c.mu.Unlock()
	c.got <- e.ID
	return nil
}

func (c *collector) wait(ctx context.Context, t testing.TB, n int) []string {
	t.Helper()
	var ids []string
	for len(ids) < n {
		select {
		case id := <-c.got:
			ids = append(ids, id)
		case <-ctx.Done():
			t.Fatalf("got %d of %d events: %v", len(ids), n, ids)
		}
	}
	return ids
}

// consume runs a consumer until the returned function is called.
func consume(t testing.TB, c ConsumerConfig) (stop func()) {
	t.Helper()
	if c.Tel == nil {
		c.Tel = telemetry.Discard()
	}
	if c.FetchMaxWait == 0 {
		c.FetchMaxWait = 50 * time.Millisecond
	}
	if c.CommitTimeout == 0 { // what was handled shall be committed, however busy the disk is
		c.CommitTimeout = time.Minute
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Consume(ctx, c) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Consume: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestRoundTripAndEndOffsets(t *testing.T) { roundTrip(t, newBroker(t)) }

func roundTrip(t *testing.T, b *broker) {
	ctx := soon(t)
	tel := telemetry.Discard()
	p := newProducer(t, ProducerConfig{Brokers: b.brokers, Tel: tel})
	c := newCollector()
	consume(t, ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicPlayback}, Handle: c.handle, Tel: tel})
	for i := range 20 {
		if err := p.Send(ctx, TopicPlayback, fmt.Sprint("key", i%5), event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	c.wait(ctx, t, 20)
	for lag, n := 1.0, 0; lag != 0 || n == 0; lag, n = telemetrytest.Metric(t, tel.Metrics, "events_consumer_lag", nil) {
		if ctx.Err() != nil {
			t.Fatalf("lag %v on %d partitions", lag, n)
		}
	}
	if n, _ := telemetrytest.Metric(t, p.cfg.Tel.Metrics, "events_produced_total", map[string]string{"topic": TopicPlayback, "result": "ok"}); n != 20 {
		t.Errorf("events_produced_total = %v, want 20", n)
	}
	if n := endOffsets(ctx, t, b.addr, TopicPlayback); n != 20 {
		t.Errorf("end offsets sum to %d, want 20", n)
	}
	if _, n := telemetrytest.Metric(t, b.tel.Metrics, "kafka_log_end_offset", nil); n != partitions() {
		t.Errorf("%d end offset metrics, want one per partition", n)
	}
}

// partitions of all topics.
func partitions() (n int) {
	for _, parts := range Topics() {
		n += int(parts)
	}
	return n
}

func endOffsets(ctx context.Context, t testing.TB, addr, topic string) (sum int64) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	offs, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	offs.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum
}

func TestDataAndGroupSurviveRestart(t *testing.T) { survivesRestart(t, newBroker(t)) }

func survivesRestart(t *testing.T, b *broker) {
	ctx := soon(t)
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	send := func(id string) {
		t.Helper()
		if err := errors.Join(p.Send(ctx, TopicTitles, "k", event(id)), p.Flush(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	send("1")
	first := newCollector()
	stop := consume(t, ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicTitles}, Handle: first.handle})
	first.wait(ctx, t, 1)
	stop()
	b.stop()
	b.start()
	send("2")
	if n := endOffsets(ctx, t, b.addr, TopicTitles); n != 2 {
		t.Errorf("end offset %d after a restart, want 2", n)
	}
	second := newCollector()
	consume(t, ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicTitles}, Handle: second.handle})
	if got := second.wait(ctx, t, 1); got[0] != "2" {
		t.Errorf("the group went on at %q, want 2", got[0])
	}
}

func TestProducerOutlastsTheBroker(t *testing.T) { outlasts(t, newBroker(t)) }

func outlasts(t *testing.T, b *broker) {
	ctx := soon(t)
	b.stop()
	tel := telemetry.Discard()
	p := newProducer(t, ProducerConfig{Brokers: b.brokers, MaxRecords: 3, Tel: tel})
	for i := range 3 {
		if err := p.Send(ctx, TopicFill, "k", event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Send(ctx, TopicFill, "k", event("over")); services.KindOf(err) != services.Exhausted {
		t.Fatalf("a full buffer gave %v, want exhausted", err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := p.Flush(short); services.KindOf(err) != services.Unavailable {
		t.Fatalf("Flush without a broker gave %v", err)
	}
	b.start()
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if n := endOffsets(ctx, t, b.addr, TopicFill); n != 3 {
		t.Errorf("%d events arrived, want 3", n)
	}
	if n, _ := telemetrytest.Metric(t, p.cfg.Tel.Metrics, "events_produced_total", map[string]string{"topic": TopicFill, "result": "refused"}); n != 1 {
		t.Errorf("%v refused, want 1", n)
	}
}

func TestCloseWithoutBrokerEnds(t *testing.T) {
	p := newProducer(t, ProducerConfig{Brokers: func(context.Context) ([]string, error) { return nil, errors.New("none") }})
	if err := p.Send(context.Background(), TopicFill, "k", event("1")); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if n, _ := telemetrytest.Metric(t, p.cfg.Tel.Metrics, "events_produced_total", map[string]string{"topic": TopicFill, "result": "failed"}); n != 1 {
		t.Errorf("%v failed, want 1", n)
	}
	if err := p.Send(context.Background(), TopicFill, "k", event("2")); services.KindOf(err) != services.Unavailable {
		t.Errorf("Send after Close: %v", err)
	}
}

func TestHandlerRetriesAndPassesOverInvalid(t *testing.T) { retries(t, newBroker(t)) }

func retries(t *testing.T, b *broker) {
	ctx := soon(t)
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	for _, v := range []any{event("1"), "no event", event("2")} {
		if err := p.Send(ctx, TopicMembers, "k", v); err != nil {
			t.Fatal(err)
		}
	}
	c, tries := newCollector(), atomic.Int32{}
	tel := telemetry.Discard()
	consume(t, ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicMembers}, Tel: tel, Handle: func(ctx context.Context, r Record) error {
		if r.Offset == 0 && tries.Add(1) < 3 {
			return services.Errorf(services.Unavailable, "not yet")
		}
		return c.handle(ctx, r)
	}})
	if got := c.wait(ctx, t, 2); got[0] != "1" || got[1] != "2" {
		t.Errorf("got %v, want 1 and 2 in order", got)
	}
	if tries.Load() != 3 {
		t.Errorf("%d tries, want 3", tries.Load())
	}
}

func TestSeen(t *testing.T) {
	s := NewSeen(2)
	for _, step := range []struct {
		id  string
		new bool
	}{{"a", true}, {"a", false}, {"b", true}, {"c", true}, {"b", false}, {"a", true}} {
		if got := s.Add(step.id); got != step.new {
			t.Errorf("Add(%s) = %v", step.id, got)
		}
	}
	if !s.Has("a") || s.Has("b") {
		t.Error("the oldest id is not the one that was forgotten")
	}
	if len(s.ids) != 2 || len(s.ring) != 2 {
		t.Errorf("%d ids remembered, want 2", len(s.ids))
	}
}
