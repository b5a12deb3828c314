package events

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

// replicate copies region's topics until the returned function is called.
func replicate(t testing.TB, from, to *broker, tel *telemetry.Telemetry) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Replicate(ctx, ReplicateConfig{Region: "north", From: from.brokers, To: to.brokers, Groups: []string{"keystone"}, Checkpoint: 50 * time.Millisecond, Retention: time.Hour, Tel: tel})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Replicate: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func handover(from, to *broker) HandoverConfig {
	return HandoverConfig{Region: "north", Group: "keystone", From: from.brokers, To: to.brokers, Tel: telemetry.Discard()}
}

// waiting is how many records the lost region's group would find here.
func waiting(ctx context.Context, from, to *broker) (n int64, err error) {
	ps, err := TranslateOffsets(ctx, handover(from, to))
	for _, p := range ps {
		n += p.Waiting
	}
	return n, err
}

// until waits for a condition.
func until(ctx context.Context, t testing.TB, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatal(what)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func sendPlayback(ctx context.Context, t testing.TB, b *broker, from, to int) {
	t.Helper()
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	for i := from; i < to; i++ {
		if err := p.Send(ctx, TopicPlayback, fmt.Sprint("key", i%7), event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// handled runs a consumer until it has handled n events and left, and returns their ids, sorted.
func handled(ctx context.Context, t testing.TB, b *broker, group, topic string, n int) []string {
	t.Helper()
	c := newCollector()
	stop := consume(t, ConsumerConfig{Brokers: b.brokers, Group: group, Topics: []string{topic}, Handle: c.handle})
	c.wait(ctx, t, n)
	stop()
	ids := slices.Clone(c.all())
	slices.Sort(ids)
	return ids
}

func numbers(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	slices.Sort(out)
	return out
}

func TestReplication(t *testing.T) { replication(t, newBroker(t), newBroker(t)) }

// replication loses a region whose consumers are behind, lets another one go
// on for them, and hands back.
func replication(t *testing.T, from, to *broker) {
	ctx := soon(t)
	copyOf, group := ReplicaTopic("north", TopicPlayback), ReplicaGroup("north", "keystone")
	sendPlayback(ctx, t, from, 0, 20)
	if got := handled(ctx, t, from, "keystone", TopicPlayback, 20); !slices.Equal(got, numbers(0, 20)) {
		t.Fatalf("the region handled %v", got)
	}
	tel := telemetry.Discard()
	stop := replicate(t, from, to, tel)
	sendPlayback(ctx, t, from, 20, 50)
	until(ctx, t, "not all was copied", func() bool {
		n, _ := telemetrytest.Metric(t, tel.Metrics, "events_replicated_total", map[string]string{"result": "copied"})
		return n == 50
	})
	until(ctx, t, "no checkpoint says that 30 events wait", func() bool {
		n, err := waiting(ctx, from, to)
		return err == nil && n == 30
	})
	sameAsSource(ctx, t, from, to)

	// A replicator that is started again copies nothing twice.
	stop()
	tel = telemetry.Discard()
	stop = replicate(t, from, to, tel)
	sendPlayback(ctx, t, from, 50, 60)
	until(ctx, t, "the new events were not copied", func() bool {
		n, err := waiting(ctx, from, to)
		return err == nil && n == 40
	})
	if n := endOffsets(ctx, t, to.addr, copyOf); n != 60 {
		t.Errorf("%d copies of 60 events after a restart", n)
	}
	telemetrytest.Await(t, tel.Metrics, "events_replicated_total", map[string]string{"result": "copied"}, 10)

	// The region is lost: another one handles what it had not.
	from.stop()
	if got := handled(ctx, t, to, group, copyOf, 40); !slices.Equal(got, numbers(20, 60)) {
		t.Errorf("the saver handled %v, want 20 to 59", got)
	}
	// It is back, and told so.
	from.start()
	var moved []Position
	until(ctx, t, "the offsets were not returned", func() bool {
		var err error
		moved, err = ReturnOffsets(ctx, handover(from, to))
		return err == nil
	})
	for _, m := range moved {
		if m.Topic != TopicPlayback || m.Waiting != 0 {
			t.Errorf("%+v, want nothing left", m)
		}
	}
	sendPlayback(ctx, t, from, 60, 70)
	if got := handled(ctx, t, from, "keystone", TopicPlayback, 10); !slices.Equal(got, numbers(60, 70)) {
		t.Errorf("the region went on with %v, want 60 to 69", got)
	}
	until(ctx, t, "replication did not go on", func() bool { return endOffsets(ctx, t, to.addr, copyOf) == 70 })
	until(ctx, t, "the checkpoint did not move on", func() bool { n, err := waiting(ctx, from, to); return err == nil && n == 0 })
	stop()
}

// sameAsSource compares every copy with its record.
func sameAsSource(ctx context.Context, t *testing.T, from, to *broker) {
	t.Helper()
	read := func(addr, topic string) map[string]*kgo.Record {
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		out := map[string]*kgo.Record{}
		for len(out) < 50 && ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { out[fmt.Sprint(r.Partition, "/", r.Offset)] = r })
		}
		return out
	}
	originals, copies := read(from.addr, TopicPlayback), read(to.addr, ReplicaTopic("north", TopicPlayback))
	for at, o := range originals {
		c := copies[at]
		if c == nil || string(c.Key) != string(o.Key) || string(c.Value) != string(o.Value) || !c.Timestamp.Equal(o.Timestamp) || len(c.Headers) != len(o.Headers)+1 {
			t.Fatalf("the copy of %s is %+v, want %+v", at, c, o)
		}
		if s, _, ok := sourceOf(c); !ok || s.region != "north" || s.offset != o.Offset {
			t.Fatalf("the copy of %s says it is of %+v", at, s)
		}
	}
}

// A log that was made anew is copied anew, and one whose oldest records are
// gone is copied from there, with the gap counted and positions still found.
func TestReplicationOfAnotherLog(t *testing.T) {
	ctx, from, to := soon(t), newBroker(t), newBroker(t)
	copyOf := ReplicaTopic("north", TopicPlayback)
	tel := telemetry.Discard()
	sendPlayback(ctx, t, from, 0, 10)
	stop := replicate(t, from, to, tel)
	until(ctx, t, "not all was copied", func() bool {
		n, _ := telemetrytest.Metric(t, tel.Metrics, "events_replicated_total", map[string]string{"result": "copied"})
		return n == 10
	})
	stop()
	from.stop()
	again := newBroker(t)
	sendPlayback(ctx, t, again, 10, 40)
	adm := admin(t, again.addr)
	ends, err := adm.ListEndOffsets(ctx, TopicPlayback)
	if err != nil {
		t.Fatal(err)
	}
	cut := ends.Offsets()
	for p, o := range cut[TopicPlayback] {
		o.At /= 2
		cut[TopicPlayback][p] = o
	}
	stop = replicate(t, again, to, telemetry.Discard())
	until(ctx, t, "the new log was not copied", func() bool { return endOffsets(ctx, t, to.addr, copyOf) == 40 })
	stop()
	if _, err := adm.DeleteRecords(ctx, cut); err != nil {
		t.Fatal(err)
	}
	for g := range 2 { // a group before, and a group within what is left
		offs := cut
		if g == 0 {
			offs = nil
			for p := range cut[TopicPlayback] {
				offs.AddOffset(TopicPlayback, p, 0, -1)
			}
		}
		if err := adm.CommitAllOffsets(ctx, "keystone", offs); err != nil {
			t.Fatal(err)
		}
		stop = replicate(t, again, to, telemetry.Discard())
		want := int64(30)
		if g == 1 {
			want = 0
			for p, o := range cut[TopicPlayback] {
				want += ends[TopicPlayback][p].Offset - o.At
			}
		}
		until(ctx, t, fmt.Sprintf("no checkpoint says that %d events wait", want), func() bool { n, err := waiting(ctx, again, to); return err == nil && n == want })
		stop()
	}
}

// A group that is behind costs no connection and no reading of the copies: the
// replicator remembers where what it copied went.
func TestCheckpointsOfAGroupBehind(t *testing.T) {
	ctx, from, to := soon(t), newBroker(t), newBroker(t)
	var dials atomic.Int64
	count := func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	adm, cancelled := admin(t, from.addr), make(chan error, 1)
	rctx, cancel := context.WithCancel(ctx)
	go func() {
		cancelled <- Replicate(rctx, ReplicateConfig{Region: "north", From: from.brokers, To: to.brokers, ToDial: count, Groups: []string{"keystone"}, Checkpoint: 20 * time.Millisecond, Tel: telemetry.Discard()})
	}()
	sendPlayback(ctx, t, from, 0, 70)
	ends, err := adm.ListEndOffsets(ctx, TopicPlayback)
	if err != nil {
		t.Fatal(err)
	}
	// behind leaves so many events of each partition unhandled, and returns when
	// the checkpoint says so.
	behind := func(left int64) {
		t.Helper()
		offs, want := ends.Offsets(), int64(0)
		for p, o := range offs[TopicPlayback] {
			n := min(left, o.At)
			o.At -= n
			want += n
			offs[TopicPlayback][p] = o
		}
		if err := adm.CommitAllOffsets(ctx, "keystone", offs); err != nil {
			t.Fatal(err)
		}
		until(ctx, t, fmt.Sprintf("no checkpoint says that %d events wait", want), func() bool {
			n, err := waiting(ctx, from, to)
			return err == nil && n == want
		})
	}
	behind(9)
	before := dials.Load()
	for left := int64(8); left > 0; left-- {
		behind(left)
	}
	if n := dials.Load() - before; n > 0 {
		t.Errorf("eight checkpoints of a group that is behind opened %d connections", n)
	}
	cancel()
	if err := <-cancelled; err != nil {
		t.Errorf("Replicate: %v", err)
	}
}

func TestTrail(t *testing.T) {
	var tr trail
	if _, ok := tr.find(5); ok {
		t.Error("an empty trail knows a place")
	}
	for i := range int64(5 * trailLength) {
		tr = tr.with(pair{source: 10 + 2*i, copy: 100 + i})
	}
	last := int64(5*trailLength - 1)
	for _, c := range []struct{ source, copied int64 }{
		{10 + 2*last, 100 + last}, {11 + 2*last, 100 + last}, {9 + 2*last, 99 + last}, {1 << 40, 100 + last},
		{10 + 2*(last-trailLength+1), 100 + last - trailLength + 1},
	} {
		if got, ok := tr.find(c.source); !ok || got != c.copied {
			t.Errorf("the copy of %d lies at %d (%v), want %d", c.source, got, ok, c.copied)
		}
	}
	if _, ok := tr.find(10); ok || len(tr) > 2*trailLength {
		t.Errorf("the trail of %d records reaches back to the first", len(tr))
	}
}

func TestReplicationMakesNoLoops(t *testing.T) {
	ctx, a, b := soon(t), newBroker(t), newBroker(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	copied := &kgo.Record{Topic: TopicPlayback, Value: []byte("{}"), Headers: []kgo.RecordHeader{source{region: "south", offset: 7}.header()}}
	if err := cl.ProduceSync(ctx, copied).FirstErr(); err != nil {
		t.Fatal(err)
	}
	sendPlayback(ctx, t, a, 0, 5)
	tel := telemetry.Discard()
	replicate(t, a, b, tel)
	until(ctx, t, "not all was looked at", func() bool {
		skipped, _ := telemetrytest.Metric(t, tel.Metrics, "events_replicated_total", map[string]string{"result": "skipped"})
		return skipped == 1 && endOffsets(ctx, t, b.addr, ReplicaTopic("north", TopicPlayback)) == 5
	})
	for _, c := range []ReplicateConfig{{}, {Region: "north", From: a.brokers, To: b.brokers, Tel: tel, Topics: []string{"south.playback"}}, {Region: "n.1", From: a.brokers, To: b.brokers, Tel: tel}} {
		if err := Replicate(ctx, c); services.KindOf(err) != services.Invalid {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Nobody's position is changed under a group that has members.
func TestReturnOffsetsRefusesMembers(t *testing.T) {
	ctx, from, to := soon(t), newBroker(t), newBroker(t)
	replicate(t, from, to, telemetry.Discard())
	sendPlayback(ctx, t, from, 0, 5)
	c := newCollector()
	consume(t, ConsumerConfig{Brokers: from.brokers, Group: "keystone", Topics: []string{TopicPlayback}, Handle: c.handle})
	c.wait(ctx, t, 5)
	if _, err := ReturnOffsets(ctx, handover(from, to)); services.KindOf(err) != services.Conflict {
		t.Errorf("got %v", err)
	}
	if _, err := ReturnOffsets(ctx, HandoverConfig{}); services.KindOf(err) != services.Invalid {
		t.Errorf("got %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := TranslateOffsets(short, HandoverConfig{Region: "north", Group: "g", Tel: telemetry.Discard(),
		To: func(context.Context) ([]string, error) { return nil, errors.New("none") }}); services.KindOf(err) != services.Unavailable {
		t.Errorf("positions without a broker: %v", err)
	}
}

func TestNames(t *testing.T) {
	if r, b := BaseTopic(ReplicaTopic("us-east", "playback")); r != "us-east" || b != "playback" {
		t.Error(r, b)
	}
	if r, b := BaseTopic("playback"); r != "" || b != "playback" {
		t.Error(r, b)
	}
}
