package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func openLog(t *testing.T, path string) *Log {
	t.Helper()
	l, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func seqs(es []Event) []uint64 {
	out := []uint64{}
	for _, e := range es {
		out = append(out, e.Seq)
	}
	return out
}

func TestLogSurvivesReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := openLog(t, path)
	for k := range 3 {
		l.Add("k", "s", fmt.Sprint(k), map[string]any{"n": k})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, path)
	l.Add("k", "", "3", nil)
	es, _ := l.Since(1)
	if got := seqs(es); !slices.Equal(got, []uint64{2, 3, 4}) {
		t.Errorf("numbers after a reopen: %v, want 2 3 4", got)
	}
	past, err := ReadLog(path)
	if err != nil || len(past) != 4 || past[3].Text != "3" || past[0].Data["n"] != 0.0 {
		t.Errorf("on disk: %+v (error %v)", past, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (error %v), want 0600", st.Mode(), err)
	}
}

// TestLogTornTail cuts the file anywhere, as a crash would: whole lines before
// the cut stay, and what is added after it is on disk, too.
func TestLogTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := openLog(t, path)
	l.Add("k", "", "one", nil)
	l.Add("k", "", "two", nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(full); cut += 7 {
		if err := os.WriteFile(path, full[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		whole := strings.Count(string(full[:cut]), "\n")
		l, err := OpenLog(path)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		l.Add("k", "", "after", nil)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		past, err := ReadLog(path)
		if err != nil || len(past) < whole+1 || past[len(past)-1].Text != "after" {
			t.Fatalf("cut at %d: %d whole lines were there; after one more: %+v (error %v)", cut, whole, past, err)
		}
		for k := 1; k < len(past); k++ {
			if past[k].Seq <= past[k-1].Seq {
				t.Fatalf("cut at %d: numbers %v", cut, seqs(past))
			}
		}
	}
}

// TestLogLongLine adds what a client may send (16 MiB) and opens the log anew:
// a daemon must never be kept from starting by what it once logged.
func TestLogLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := openLog(t, path)
	l.Add("k", "", "before", nil)
	l.Add("k", "", strings.Repeat("x", 2<<20), nil)
	l.Add("k", "", "after", nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLog(path)
	if err != nil {
		t.Fatalf("the log does not open again: %v", err)
	}
	defer l.Close()
	es, _ := l.Since(0)
	if len(es) < 2 || es[0].Text != "before" || es[len(es)-1].Text != "after" {
		t.Errorf("%d events are there, from %q to %q", len(es), es[0].Kind, es[len(es)-1].Kind)
	}
}

func TestLogKeepsABound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := openLog(t, path)
	for range 3 * keepEvents {
		l.Add("k", "", "", nil)
	}
	es, _ := l.Since(0)
	if len(es) > keepEvents || len(es) < keepEvents/2 {
		t.Errorf("%d events are kept, want at most %d", len(es), keepEvents)
	}
	if es[len(es)-1].Seq != 3*keepEvents {
		t.Errorf("the newest is %d, want %d", es[len(es)-1].Seq, 3*keepEvents)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, path)
	if len(l.recent) > keepEvents || cap(l.recent) > 2*keepEvents {
		t.Errorf("after a reopen %d events are kept in room for %d, want at most %d", len(l.recent), cap(l.recent), keepEvents)
	}
}

// TestFollow checks that a follower gets each event once, in order, also those
// that come while it reads.
func TestFollow(t *testing.T) {
	e := &fakeEngine{}
	c, end := serve(t, e, nil)
	e.log.Add("k", "", "old", nil)
	const n = 50
	var got []uint64
	ended := make(chan error, 1)
	first := make(chan struct{})
	go func() {
		ended <- c.Events(context.Background(), 0, true, func(ev Event) error {
			if got = append(got, ev.Seq); len(got) == 1 {
				close(first)
			}
			if len(got) == n+1 {
				return errEnough
			}
			return nil
		})
	}()
	<-first
	for range n {
		e.log.Add("k", "", "new", nil)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, errEnough) {
			t.Fatalf("followed to %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the follower did not get every event")
	}
	for k, s := range got {
		if s != uint64(k+1) {
			t.Fatalf("got %v, want 1 to %d", got, n+1)
		}
	}
	// Without follow it ends by itself; after a number it begins behind it.
	var some []uint64
	if err := c.Events(t.Context(), n-1, false, func(ev Event) error { some = append(some, ev.Seq); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(some, []uint64{n, n + 1}) {
		t.Errorf("after %d: %v", n-1, some)
	}
	end()
}

var errEnough = errors.New("enough")

// TestFollowEndsWithItsReader checks both ways a follower ends: by its own
// context, and with the daemon.
func TestFollowEndsWithItsReader(t *testing.T) {
	e := &fakeEngine{}
	c, end := serve(t, e, nil)
	ctx, cancel := context.WithCancel(t.Context())
	e.log.Add("k", "", "", nil)
	if err := c.Events(ctx, 0, true, func(Event) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that left got %v", err)
	}
	got, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- c.Events(context.Background(), 0, true, func(Event) error { close(got); return nil })
	}()
	<-got
	end()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the follower outlived the daemon")
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte(`{"seq":1,"at":"2026-01-02T03:04:05Z","kind":"lab.up","text":"x"}` + "\n"))
	f.Add([]byte("{\"seq\":1}\n{\"seq\":"))
	f.Add([]byte("null\n[]\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "e")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLog(path)
		if err != nil {
			return
		}
		defer l.Close()
		before, _ := l.Since(0)
		l.Add("k", "", "x", nil)
		after, _ := l.Since(0)
		if len(after) != min(len(before)+1, keepEvents/2+1) && len(after) != len(before)+1 {
			t.Errorf("%d events became %d", len(before), len(after))
		}
	})
}
