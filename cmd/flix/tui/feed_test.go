package tui

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/exp/teatest"

	"github.com/flix-lab/flix/lab/control"
)

// inbox collects what a feed sends.
type inbox struct {
	mu   sync.Mutex
	msgs []tea.Msg
}

func (b *inbox) put(m tea.Msg) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.msgs = append(b.msgs, m)
}

// seqs are the events' numbers that arrived; 0 stands for a fresh log.
func (b *inbox) seqs() (out []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.msgs {
		if n, ok := m.(news); ok {
			if n.fresh {
				out = append(out, 0)
			}
			for _, e := range n.events {
				out = append(out, e.Seq)
			}
		}
	}
	return out
}

// last is the newest message of a type.
func last[T any](b *inbox) (out T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.msgs {
		if x, ok := m.(T); ok {
			out = x
		}
	}
	return out
}

// fed runs a feed on simulated time until the test's function returns.
func fed(t *testing.T, src *fake, do func(t *testing.T, b *inbox)) {
	synctest.Test(t, func(t *testing.T) {
		src.more = make(chan struct{}) // one of this bubble
		var b inbox
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { feed{src: src, send: b.put, every: time.Second, now: time.Now}.run(ctx) })
		do(t, &b)
		stop()
		wg.Wait() // every goroutine of the feed ends with its context
	})
}

func TestFeedPollsEachKindOnceASecond(t *testing.T) {
	src := newFake(sampleEvents(3))
	fed(t, src, func(t *testing.T, b *inbox) {
		time.Sleep(10*time.Second + time.Millisecond)
		for _, kind := range []string{"status", "fill", "sessions", "moves"} {
			if n := src.count(kind); n != 11 {
				t.Errorf("%s was asked for %d times in 10 s", kind, n)
			}
		}
		if n := src.count("events"); n != 1 {
			t.Errorf("the stream was opened %d times", n)
		}
		if got := b.seqs(); len(got) != 3 {
			t.Errorf("events %v", got)
		}
	})
}

func TestASlowKindHoldsUpNoOther(t *testing.T) {
	src := newFake(nil)
	src.hang = true
	fed(t, src, func(t *testing.T, b *inbox) {
		time.Sleep(4500 * time.Millisecond)
		if n := src.count("fill"); n != 1 {
			t.Errorf("%d questions in flight", n)
		}
		if n := src.count("status"); n != 5 {
			t.Errorf("status was asked for %d times beside it", n)
		}
		time.Sleep(time.Second)
		if err := last[answer[control.FillStatus]](b).err; err == nil || err.Error() != "no answer within 5s" {
			t.Errorf("a question that hangs gives %v", err)
		}
	})
}

func TestFeedReconnectsWhereItBrokeOff(t *testing.T) {
	src := newFake(sampleEvents(3))
	fed(t, src, func(t *testing.T, b *inbox) {
		synctest.Wait()
		src.change(func() { src.down = true })
		time.Sleep(2 * time.Second)
		if err := last[answer[control.Status]](b).err; !errors.Is(err, control.ErrNoDaemon) {
			t.Errorf("status of a dead daemon: %v", err)
		}
		if err := last[stream](b).err; err == nil {
			t.Error("the broken stream is not told of")
		}
		src.change(func() {
			src.down = false
			src.events = append(src.events, control.Event{Seq: 4, At: noon, Kind: "daemon.up"})
		})
		time.Sleep(2 * time.Second)
		if err := last[stream](b).err; err != nil {
			t.Errorf("the stream stands again and says %v", err)
		}
		src.change(func() { src.events = append(src.events, control.Event{Seq: 5, At: noon}) })
		synctest.Wait()
		if got := b.seqs(); len(got) != 5 || got[3] != 4 || got[4] != 5 {
			t.Errorf("events %v: one was lost or came twice", got)
		}
		if got := src.after[len(src.after)-1]; got != 3 {
			t.Errorf("it went on after %d, want 3", got)
		}
	})
}

func TestFeedNoticesAnotherLog(t *testing.T) {
	for name, log := range map[string][]control.Event{
		"shorter": {{Seq: 1, At: noon.Add(time.Hour), Kind: "daemon.up"}},
		"as long": {{Seq: 1, At: noon.Add(time.Hour)}, {Seq: 2, At: noon.Add(time.Hour)}, {Seq: 3, At: noon.Add(time.Hour)}},
	} {
		t.Run(name, func(t *testing.T) {
			src := newFake(sampleEvents(3))
			fed(t, src, func(t *testing.T, b *inbox) {
				synctest.Wait()
				src.change(func() { src.down = true })
				time.Sleep(2 * time.Second)
				src.change(func() { src.down = false; src.events = log })
				time.Sleep(2 * time.Second)
				if got := b.seqs(); len(got) != 4+len(log) || got[3] != 0 || got[4] != 1 {
					t.Errorf("events %v, want 1 2 3, a fresh log, and its own", got)
				}
			})
		})
	}
}

func TestALongLogComesInBatches(t *testing.T) {
	src := newFake(sampleEvents(1000))
	fed(t, src, func(t *testing.T, b *inbox) {
		synctest.Wait()
		got := b.seqs()
		for i, s := range got {
			if s != uint64(i+1) {
				t.Fatalf("event %d has number %d", i, s)
			}
		}
		if len(got) != 1000 {
			t.Errorf("%d events of 1000", len(got))
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, m := range b.msgs {
			if n, ok := m.(news); ok && len(n.events) > newsBatch {
				t.Errorf("a batch of %d", len(n.events))
			}
		}
	})
}

// TestSession drives the whole program as a user would.
func TestSession(t *testing.T) {
	tm := teatest.NewTestModel(t, newModel(Options{Out: io.Discard}), teatest.WithInitialTermSize(100, 30))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	f := feed{src: newFake(sampleEvents(5)), send: tm.Send, every: 20 * time.Millisecond, now: func() time.Time { return noon }}
	wg.Go(func() { f.run(ctx) })
	see := func(want string) {
		t.Helper()
		teatest.WaitFor(t, tm.Output(), func(b []byte) bool { return bytes.Contains(b, []byte(want)) },
			teatest.WithDuration(time.Minute), teatest.WithCheckInterval(5*time.Millisecond))
	}
	see("● live")
	tm.Type("?")
	see("Everywhere")
	tm.Type("?2")
	see("us-east/a/gateway/1")
	tm.Type("/")
	tm.Type("license fail")
	see("1 of 96")
	tm.Send(tea.KeyMsg{Type: tea.KeyEnter})
	see("96 instances")
	tm.Type("q")
	m := tm.FinalModel(t, teatest.WithFinalTimeout(time.Minute)).(model)
	stop()
	wg.Wait()
	if s := m.screens[instancesAt].(instances); m.at != instancesAt || s.list.filter != "license fail" || s.list.typing {
		t.Errorf("it ended on screen %d with %+v", m.at, s.list)
	}
}

func TestRunEndsByKey(t *testing.T) {
	keys, typist := io.Pipe()
	done := make(chan error, 1)
	var out safeBuffer
	go func() { done <- Run(t.Context(), newFake(nil), Options{In: keys, Out: &out, Every: time.Millisecond}) }()
	if _, err := typist.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	typist.Close()
	if !strings.Contains(out.String(), "\x1b[?1049l") {
		t.Error("the terminal was left on its other screen")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	keys, typist := io.Pipe()
	defer typist.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	src := newFake(nil)
	go func() { done <- Run(ctx, src, Options{In: keys, Out: &safeBuffer{}, Every: time.Millisecond}) }()
	poll, deadline := time.NewTicker(time.Millisecond), time.After(time.Minute)
	defer poll.Stop()
	for src.count("status") == 0 {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal("it never asked for the status")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// safeBuffer is a buffer for more than one goroutine.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
