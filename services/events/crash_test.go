package events

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// brokerDirEnv makes the test binary a broker on that directory, for a test
// to kill.
const brokerDirEnv = "EVENTS_TEST_BROKER_DIR"

// TestBrokerProcess is the process that TestDataSurvivesKill kills.
func TestBrokerProcess(t *testing.T) {
	dir := os.Getenv(brokerDirEnv)
	if dir == "" {
		t.Skip("only as a child of TestDataSurvivesKill")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(ServerConfig{Dir: dir, Listener: ln, Tel: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("addr " + ln.Addr().String())
	t.Fatal(s.Serve(context.Background()))
}

func TestDataSurvivesKill(t *testing.T) {
	ctx, dir := soon(t), t.TempDir()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestBrokerProcess$")
	cmd.Env = append(os.Environ(), brokerDirEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	for sc := bufio.NewScanner(out); addr == "" && sc.Scan(); {
		addr, _ = strings.CutPrefix(sc.Text(), "addr ")
	}
	p := newProducer(t, ProducerConfig{Brokers: func(context.Context) ([]string, error) { return []string{addr}, nil }})
	for i := range 50 {
		if err := p.Send(ctx, TopicPlayback, fmt.Sprint(i), event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	dead := &broker{t: t, dir: dir, addr: addr}
	if got := handled(ctx, t, dead, "before", TopicPlayback, 50); len(got) != 50 {
		t.Fatalf("%d events were handled, want 50", len(got))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	b := &broker{t: t, dir: dir, addr: "127.0.0.1:0"}
	b.start()
	t.Cleanup(b.stop)
	if n := endOffsets(ctx, t, b.addr, TopicPlayback); n != 50 {
		t.Errorf("%d events after the kill, want 50", n)
	}
	c := newCollector()
	consume(t, ConsumerConfig{Brokers: b.brokers, Group: "g", Topics: []string{TopicPlayback}, Handle: c.handle})
	c.wait(ctx, t, 50)
	// So do the positions of those who had read before.
	ps, _, err := Progress(ctx, HandoverConfig{Region: "north", Group: "before", Topics: []string{TopicPlayback}, From: b.brokers, Tel: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.Waiting > 0 {
			t.Errorf("%d events of partition %d wait for a group that had handled them", p.Waiting, p.Partition)
		}
	}
}

func TestOneBrokerPerDirectory(t *testing.T) {
	ctx, b := soon(t), newBroker(t)
	endOffsets(ctx, t, b.addr, TopicFill) // it is up
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(ServerConfig{Dir: b.dir, Listener: ln, Tel: telemetry.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ctx); services.KindOf(err) != services.Conflict {
		t.Errorf("a second broker on the directory: %v", err)
	}
}

// A topic that an older log does not have is created on it.
func TestMissingTopicsAreCreated(t *testing.T) {
	ctx, b := soon(t), newBroker(t)
	endOffsets(ctx, t, b.addr, TopicFill)
	b.stop()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(ServerConfig{Dir: b.dir, Listener: ln, Tel: telemetry.Discard(), Topics: map[string]int32{"new": 2, TopicFill: 1}})
	if err != nil {
		t.Fatal(err)
	}
	sctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Serve(sctx) }()
	p := newProducer(t, ProducerConfig{Brokers: func(context.Context) ([]string, error) { return []string{ln.Addr().String()}, nil }})
	if err := p.Send(ctx, "new", "k", event("1")); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if n := endOffsets(ctx, t, ln.Addr().String(), "new"); n != 1 {
		t.Errorf("end offset %d, want 1", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
