package events

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/dockertest"
)

// container is a Kafka broker that a test started.
type container struct {
	name, addr string
	beside     *beside
}

// startKafka runs Kafka until the end of the test, which is skipped where that
// cannot be done (and fails when FLIX_REQUIRE_DOCKER is 1).
func startKafka(t testing.TB) *container {
	t.Helper()
	image := dockertest.Image(t, "kafka", "apache/kafka:4.1.0", "flix/kafka:4.1.0")
	c := &container{name: "flixt-kfk-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(func() {
		if t.Failed() {
			logs, err := dockertest.Run("logs", "--tail", "40", c.name)
			t.Logf("%s %v", logs, err)
		}
		if _, err := dockertest.Run("rm", "--force", "--volumes", c.name); err != nil {
			t.Error(err)
		}
	})
	// A port of our own choice: the broker tells it to its clients.
	c.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(addresstest.Port(t)))
	run := []string{"run", "--detach", "--name", c.name, "--memory", "512m", "--publish", c.addr + ":" + strconv.Itoa(BrokerHostPort), "--volume", BrokerDir}
	for k, v := range Environment(Broker{NodeID: 1, ClusterID: "4L6g3nShT-eMCtK--X86sw", Internal: c.name + ":9092", External: c.addr, Retention: time.Hour}) {
		run = append(run, "--env", k+"="+v)
	}
	start := time.Now()
	if _, err := dockertest.Run(append(run, image)...); err != nil {
		t.Fatal(err)
	}
	c.beside = newBeside(t, c.addr, time.Hour)
	t.Logf("Kafka took records %s after docker run was called", time.Since(start).Round(time.Millisecond))
	c.beside.change(t, true)
	return c
}

func (c *container) kill(t testing.TB) {
	t.Helper()
	if _, err := dockertest.Run("kill", c.name); err != nil {
		t.Fatal(err)
	}
	c.beside.change(t, false)
}

func (c *container) restart(t testing.TB) {
	t.Helper()
	start := time.Now()
	if _, err := dockertest.Run("start", c.name); err != nil {
		t.Fatal(err)
	}
	c.beside.change(t, true)
	t.Logf("Kafka took records again %s after docker start was called", time.Since(start).Round(time.Millisecond))
}

// fresh empties the broker: no groups, and topics without records.
func (c *container) fresh(t testing.TB) {
	t.Helper()
	ctx, adm := soon(t), admin(t, c.addr)
	groups, err := adm.ListGroups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteGroups(ctx, groups.Groups()...); err != nil {
		t.Fatal(err)
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	delete(topics, probeTopic)
	if _, err := adm.DeleteTopics(ctx, topics.Names()...); err != nil {
		t.Fatal(err)
	}
	for {
		err := ensureTopics(ctx, adm, Topics(), time.Hour)
		if topics, lerr := adm.ListTopics(ctx); err == nil && lerr == nil && len(topics) == len(Topics())+1 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the topics are not there again: %v", err)
		}
	}
}

// One broker serves all the tests of producers and consumers.
func TestKafka(t *testing.T) {
	c := startKafka(t)
	b := &broker{t: t, addr: c.addr, tel: c.beside.tel, real: c}
	b.stop = func() { c.kill(b.t) }
	for _, s := range []struct {
		name string
		run  func(*testing.T, *broker)
	}{
		{"first send", firstSend}, {"round trip", roundTrip}, {"figures", func(t *testing.T, b *broker) { showsBroker(t, b, c.beside) }},
		{"retries", retries}, {"rebalances", rebalances}, {"trace", carriesTrace}, {"stuck handler", joinsAnew},
		{"replication to it", func(t *testing.T, b *broker) { replication(t, newBroker(t), b) }},
		{"replication from it, through a kill", func(t *testing.T, b *broker) { replication(t, b, newBroker(t)) }},
		{"restart", survivesRestart}, {"outlasts", outlasts},
	} {
		t.Run(s.name, func(t *testing.T) {
			c.fresh(t)
			b.t = t
			s.run(t, b)
		})
	}
}

// firstSend measures how long the first event of a new producer takes, and
// the way of an event to a consumer that waits for it.
func firstSend(t *testing.T, b *broker) {
	ctx := soon(t)
	p := newProducer(t, ProducerConfig{Brokers: b.brokers})
	start := time.Now()
	if err := errors.Join(p.Send(ctx, TopicTitles, "k", event("1")), p.Flush(ctx)); err != nil {
		t.Fatal(err)
	}
	first := time.Since(start)
	c := newCollector()
	consume(t, ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicTitles}, Handle: c.handle, FetchMaxWait: defaultFetchMaxWait})
	start = time.Now()
	c.wait(ctx, t, 1)
	join := time.Since(start)
	start = time.Now()
	if err := p.Send(ctx, TopicTitles, "k", event("2")); err != nil {
		t.Fatal(err)
	}
	c.wait(ctx, t, 1)
	t.Logf("first event %s, joining a new group %s, one event to the consumer %s", first.Round(time.Millisecond), join.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	if err := p.Send(ctx, "no-such-topic", "k", event("3")); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := p.Flush(short); err != nil && services.KindOf(err) != services.Unavailable {
		t.Errorf("an event for a topic that is not there: %v", err)
	}
}
