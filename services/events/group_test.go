package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// Two members share the partitions; when one goes, the other has all.
func TestGroupRebalances(t *testing.T) { rebalances(t, newBroker(t)) }

func rebalances(t *testing.T, b *broker) {
	ctx := soon(t)
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	one, two := newCollector(), newCollector()
	cfg := ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicPlayback}, Handle: one.handle}
	stopOne := consume(t, cfg)
	seen := NewSeen(1 << 20) // none is forgotten, however long the second takes to join
	next := 0
	send := func() {
		t.Helper()
		for range 8 {
			next++
			if err := p.Send(ctx, TopicPlayback, fmt.Sprint(next), event(fmt.Sprint(next))); err != nil {
				t.Fatal(err)
			}
		}
	}
	// drain remembers what has come, from both, until it is all there.
	drain := func() {
		t.Helper()
		for missing := true; missing; {
			select {
			case id := <-one.got:
				seen.Add(id)
			case id := <-two.got:
				seen.Add(id)
			case <-ctx.Done():
				t.Fatal("events are missing")
			}
			missing = false
			for i := 1; i <= next; i++ {
				missing = missing || !seen.Has(fmt.Sprint(i))
			}
		}
	}
	send()
	drain()
	cfg.Handle = two.handle
	consume(t, cfg)
	for len(two.all()) == 0 {
		send()
		drain()
	}
	stopOne()
	before := len(one.all())
	send()
	drain()
	if after := len(one.all()); after != before {
		t.Error("a member that left still handles events")
	}
}

func (c *collector) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ids
}

func TestConsumeRefusesBadConfig(t *testing.T) {
	if err := Consume(t.Context(), ConsumerConfig{}); services.KindOf(err) != services.Invalid {
		t.Errorf("got %v", err)
	}
}

// Consumer and producer end at once where there is no broker.
func TestConsumerEndsWithoutBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is the time of its own waits that counts
		asked := make(chan struct{})
		stop := consume(t, ConsumerConfig{Group: "g", Topics: []string{TopicFill}, Handle: newCollector().handle,
			Brokers: func(ctx context.Context) ([]string, error) {
				select {
				case asked <- struct{}{}:
				case <-ctx.Done():
				}
				return []string{"198.18.0.1:1"}, nil
			},
			Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }})
		<-asked
		<-asked // it tries again
		start := time.Now()
		stop()
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("the end took %s", d)
		}
	})
}

func TestTraceReachesTheConsumer(t *testing.T) { carriesTrace(t, newBroker(t)) }

func carriesTrace(t *testing.T, b *broker) {
	ctx := soon(t)
	tel := telemetry.Discard()
	p := newProducer(t, ProducerConfig{Brokers: b.brokers, Tel: tel})
	sctx, span := tel.Tracer.Start(ctx, "test")
	if err := p.Send(sctx, TopicFill, "k", FillEvent{Header: NewHeader(sctx, tel)}); err != nil {
		t.Fatal(err)
	}
	span.End()
	got := make(chan string, 1)
	consume(t, ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicFill}, Handle: func(ctx context.Context, r Record) error {
		e, err := Decode[FillEvent](r)
		if err == nil && e.TraceID != telemetry.TraceID(ctx) {
			err = services.Errorf(services.Invalid, "trace %s, event %s", telemetry.TraceID(ctx), e.TraceID)
		}
		got <- telemetry.TraceID(ctx)
		return err
	}})
	if id := <-got; id != span.SpanContext().TraceID().String() {
		t.Errorf("trace %q, want %q", id, span.SpanContext().TraceID())
	}
}

// A handler that fails for longer than its member's patience gets the record
// again after the member has joined anew.
func TestStuckHandlerJoinsAnew(t *testing.T) { joinsAnew(t, newBroker(t)) }

func joinsAnew(t *testing.T, b *broker) {
	ctx := soon(t)
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	for _, id := range []string{"1", "2", "3"} {
		if err := p.Send(ctx, TopicTitles, "k", event(id)); err != nil {
			t.Fatal(err)
		}
	}
	c := newCollector()
	var connected, stuckAt atomic.Int32
	brokers := func(ctx context.Context) ([]string, error) { // each membership asks for them
		connected.Add(1)
		return b.brokers(ctx)
	}
	consume(t, ConsumerConfig{Brokers: brokers, Group: "g", Topics: []string{TopicTitles}, Patience: 20 * time.Millisecond, Handle: func(ctx context.Context, r Record) error {
		if r.Offset == 1 {
			stuckAt.CompareAndSwap(0, connected.Load())
			if connected.Load() == stuckAt.Load() {
				return services.Errorf(services.Unavailable, "not yet")
			}
		}
		return c.handle(ctx, r)
	}})
	if got := c.wait(ctx, t, 3); got[0] != "1" || got[1] != "2" || got[2] != "3" {
		t.Errorf("got %v, want each once and in order", got)
	}
}
