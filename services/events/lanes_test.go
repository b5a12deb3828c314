package events

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flix-lab/flix/services"
)

// With lanes, records of different keys are handled at once, those of a key in
// order, and one that fails comes again without another being lost.
func TestLanes(t *testing.T) {
	b := newBroker(t)
	ctx := soon(t)
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	const keys, rounds = 16, 10 // hardly ever all of one lane
	var (
		mu     sync.Mutex
		last   = map[string]int{}
		total  int
		failed atomic.Bool
	)
	// All are there before the consumer is: it meets several lanes at once.
	for v := 1; v <= rounds; v++ {
		for k := range keys {
			key := fmt.Sprint("title", k)
			if err := p.Send(ctx, TopicTitles, key, TitleEvent{Title: key, Version: uint64(v)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	both := make(chan struct{})
	meet := make(chan struct{}, 2)
	var once sync.Once
	consume(t, ConsumerConfig{Brokers: b.brokers, Group: "lanes", Topics: []string{TopicTitles}, Lanes: 4, Handle: func(ctx context.Context, r Record) error {
		e, err := Decode[TitleEvent](r)
		if err != nil {
			return err
		}
		// Two handlers must be in here at the same time once.
		select {
		case meet <- struct{}{}:
			if len(meet) == cap(meet) {
				once.Do(func() { close(both) })
			}
			select {
			case <-both:
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
		}
		if e.Version == 5 && failed.CompareAndSwap(false, true) {
			return services.Errorf(services.Unavailable, "once")
		}
		mu.Lock()
		defer mu.Unlock()
		if int(e.Version) > last[r.Key]+1 {
			t.Errorf("%s: %d comes after %d", r.Key, e.Version, last[r.Key])
		}
		if int(e.Version) > last[r.Key] {
			last[r.Key] = int(e.Version)
			total++
		}
		return nil
	}})
	until(ctx, t, "not everything was handled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return total == keys*rounds
	})
	if !failed.Load() {
		t.Error("nothing failed")
	}
}
