package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/telemetry"
)

// stream is one region's Kafka and router, without anything around them.
type stream struct {
	t      *testing.T
	region string
	addr   string
	kill   func()
	tel    *telemetry.Telemetry
	pipe   *pipeline

	mu      sync.Mutex
	handled map[string]int // by event id
	// broken makes the handler fail.
	broken bool
}

// streams runs the pipelines of regions, each copying all others, until the
// test ends.
func streams(t *testing.T, regions ...string) map[string]*stream {
	t.Helper()
	out := map[string]*stream{}
	for _, r := range regions {
		out[r] = newStream(t, r)
	}
	for _, s := range out {
		s.run(out)
	}
	return out
}

func newStream(t *testing.T, region string) *stream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k, err := events.NewServer(events.ServerConfig{Dir: t.TempDir(), Listener: l, Tel: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Serve(ctx) }()
	s := &stream{t: t, region: region, addr: l.Addr().String(), tel: telemetry.Discard(), handled: map[string]int{}}
	s.kill = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Kafka of %s: %v", region, err)
		}
	})
	t.Cleanup(s.kill)
	return s
}

func (s *stream) run(all map[string]*stream) {
	s.pipe = newPipeline(pipeline{
		region: s.region, tel: s.tel, dial: (&net.Dialer{}).DialContext,
		brokers: func(region string) func(context.Context) ([]string, error) {
			return func(context.Context) ([]string, error) { return []string{all[region].addr}, nil }
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.pipe.consume(ctx, []string{events.TopicPlayback, events.TopicTitles, events.TopicFill}, s.handle); err != nil {
			s.t.Errorf("consume in %s: %v", s.region, err)
		}
	})
	var others []string
	for r := range all {
		if r != s.region {
			others = append(others, r)
		}
	}
	wg.Go(func() { s.pipe.replicate(ctx, func() []string { return others }, nil) })
	s.t.Cleanup(func() { cancel(); wg.Wait() })
}

func (s *stream) handle(_ context.Context, topic string, _, value []byte) error {
	var e events.PlaybackEvent
	if err := json.Unmarshal(value, &e); err != nil || topic != events.TopicPlayback {
		return services.Errorf(services.Invalid, "topic %s: %v", topic, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return services.Errorf(services.Unavailable, "the store is away")
	}
	s.handled[e.ID]++
	return nil
}

func (s *stream) setBroken(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = on
}

// send produces events with numbers as ids into the region's own log.
func (s *stream) send(from, to int) {
	s.t.Helper()
	p, err := events.NewProducer(events.ProducerConfig{Brokers: s.pipe.brokers(s.region), ClientID: "test", Tel: telemetry.Discard()})
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for n := from; n < to; n++ {
		e := events.PlaybackEvent{Kind: "progress", Session: "s", Header: events.Header{ID: fmt.Sprint(n), At: time.Now()}}
		if err := p.Send(ctx, events.TopicPlayback, fmt.Sprint(n%5), e); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// counts is how often each event of a range was handled, in some regions.
func counts(from, to int, ss ...*stream) map[int]int {
	out := map[int]int{}
	for n := from; n < to; n++ {
		out[n] = 0
		for _, s := range ss {
			s.mu.Lock()
			out[n] += s.handled[fmt.Sprint(n)]
			s.mu.Unlock()
		}
	}
	return out
}

// wantHandled waits until every event of a range was handled in some region.
func wantHandled(t *testing.T, from, to int, ss ...*stream) {
	t.Helper()
	wait(t, fmt.Sprintf("events %d to %d to be handled", from, to), func() bool {
		for _, n := range counts(from, to, ss...) {
			if n == 0 {
				return false
			}
		}
		return true
	})
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func handoverOf(all map[string]*stream) handover {
	return handover{
		kafka: func(region string) func(context.Context) ([]string, error) {
			return func(context.Context) ([]string, error) { return []string{all[region].addr}, nil }
		},
		alive: func(region string) bool { return all[region] != nil && all[region].addr != "" },
		note:  func(string, string) {}, tel: telemetry.Discard(),
	}
}

// TestHandoverAndBack evacuates a region whose router is stuck and hands it
// back: every event is handled, and none twice.
func TestHandoverAndBack(t *testing.T) {
	all := streams(t, "north", "south")
	north, south := all["north"], all["south"]
	h := handoverOf(all)
	north.send(0, 20)
	wantHandled(t, 0, 20, north)
	north.setBroken(true)
	north.send(20, 50)

	north.tel.Properties.Set(map[string]string{propPause: "on"})
	left, reached := h.standstill(t.Context(), "north", "north", pipelineGroup, events.ReplicatedTopics())
	if left != 30 || !reached {
		t.Fatalf("%d events are left, reached %v", left, reached)
	}
	if n, err := h.checkpointed(t.Context(), "north", "south", left, reached); err != nil || n != 30 {
		t.Fatalf("the copies have %d to handle: %v", n, err)
	}
	south.tel.Properties.Set(map[string]string{propAdopt: `["north"]`})
	north.setBroken(false)
	wantHandled(t, 20, 50, south)
	north.send(50, 60) // a client that comes late
	wantHandled(t, 50, 60, south)

	south.tel.Properties.Set(map[string]string{propAdopt: ""})
	moved, err := h.handBack(t.Context(), "north", "south")
	if err != nil || moved == 0 {
		t.Fatalf("%d partitions were handed back: %v", moved, err)
	}
	north.tel.Properties.Set(map[string]string{propPause: ""})
	north.send(60, 70)
	wantHandled(t, 60, 70, north)
	for n, times := range counts(0, 70, north, south) {
		if times != 1 {
			t.Errorf("event %d was handled %d times", n, times)
		}
	}
}

// TestHandoverWaitsForAKafka has the saver's Kafka out of reach for longer than a
// pipeline may take to stand still, as on processors that are full.
func TestHandoverWaitsForAKafka(t *testing.T) {
	t.Parallel()
	all := streams(t, "north", "south")
	all["north"].send(0, 20)
	wantHandled(t, 0, 20, all["north"])
	h := handoverOf(all)
	reach, began := h.kafka, time.Now()
	h.kafka = func(region string) func(context.Context) ([]string, error) {
		return func(ctx context.Context) ([]string, error) {
			if region == "south" && time.Since(began) < settleTime+time.Second {
				return nil, errors.New("it does not answer")
			}
			return reach(region)(ctx)
		}
	}
	if n, err := h.checkpointed(t.Context(), "north", "south", 0, true); err != nil || n != 0 {
		t.Errorf("%d left to handle, error %v", n, err)
	}
}

// TestHandoverOfALostRegion loses a region's Kafka with events in it that its
// router has not handled: the saver goes on from its last checkpoint.
func TestHandoverOfALostRegion(t *testing.T) {
	all := streams(t, "north", "south")
	north, south := all["north"], all["south"]
	h := handoverOf(all)
	north.send(0, 20)
	wantHandled(t, 0, 20, north)
	north.setBroken(true)
	north.send(20, 50)
	wait(t, "everything to be copied", func() bool {
		n, err := h.checkpointed(t.Context(), "north", "south", 30, true)
		return err == nil && n == 30
	})
	north.kill()
	lost := handover{kafka: h.kafka, tel: h.tel, note: h.note, alive: func(region string) bool { return region != "north" }}
	left, reached := lost.standstill(t.Context(), "north", "north", pipelineGroup, events.ReplicatedTopics())
	if reached {
		t.Fatalf("a dead Kafka says that %d are left", left)
	}
	if n, err := lost.checkpointed(t.Context(), "north", "south", left, reached); err != nil || n != 30 {
		t.Fatalf("the copies have %d to handle: %v", n, err)
	}
	south.tel.Properties.Set(map[string]string{propAdopt: `["north"]`})
	wantHandled(t, 20, 50, south)
	if moved, err := lost.handBack(t.Context(), "north", "south"); err != nil || moved != 0 {
		t.Errorf("%d partitions were handed back to a dead Kafka: %v", moved, err)
	}
}

func TestReads(t *testing.T) {
	for name, c := range map[string]struct {
		pause, adopt string
		want         []string
	}{
		"its own":             {want: []string{own}},
		"paused":              {pause: "on"},
		"own and adopted":     {adopt: `["south","west"]`, want: []string{own, "south", "west"}},
		"paused and adopting": {pause: "on", adopt: `["south"]`, want: []string{"south"}},
		"never itself":        {adopt: `["north",""]`, want: []string{own}},
		"damaged":             {adopt: `south`, want: []string{own}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipeline(pipeline{region: "north", tel: telemetry.Discard()})
			p.tel.Properties.Set(map[string]string{propPause: c.pause, propAdopt: c.adopt})
			if got := p.reads(); !slices.Equal(got, c.want) {
				t.Errorf("it reads %q, want %q", got, c.want)
			}
		})
	}
}
