package check

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

func newLog(t *testing.T) (*Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.jsonl")
	l, err := CreateLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return l, path
}

func TestLogKeepsWhatItAcknowledged(t *testing.T) {
	l, path := newLog(t)
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			if err := l.Append(Entry{Kind: SQL, Key: fmt.Sprint(n), Value: "v", At: time.Now()}); err != nil {
				t.Error(err)
			}
			// It is on disk now, not at Close.
			b, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(b), fmt.Sprintf(`"key":"%d"`, n)) {
				t.Errorf("%d is not in the file: %v", n, err)
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	es, err := readLog(path)
	if err != nil || len(es) != 200 || es[0].Kind != SQL || es[0].Value != "v" || es[0].At.IsZero() {
		t.Errorf("%d entries, %v", len(es), err)
	}
	if _, err := CreateLog(path); services.KindOf(err) != services.Conflict {
		t.Errorf("a log that exists is taken again: %v", err)
	}
}

func TestReadLog(t *testing.T) {
	const whole = `{"kind":"local","key":"1","value":"x","acknowledged_at":"2026-01-02T03:04:05Z"}` + "\n"
	for name, c := range map[string]struct {
		text string
		n    int
		ok   bool
	}{
		"empty":         {"", 0, true},
		"two":           {whole + whole, 2, true},
		"cut short":     {whole + whole[:20], 1, true},
		"damaged":       {whole + "rubbish\n" + whole, 0, false},
		"nothing whole": {whole[:20], 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			es, err := readLog(path)
			if len(es) != c.n || (err == nil) != c.ok {
				t.Errorf("%d entries, %v", len(es), err)
			}
		})
	}
}

// TestLoad counts what fails as refused and what succeeds once it is logged.
func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.jsonl")
	synctest.Test(t, func(t *testing.T) {
		log, err := CreateLog(path) // in the bubble: its goroutine is part of it
		if err != nil {
			t.Fatal(err)
		}
		var told sync.Map
		w, err := Load{
			Write: map[Kind]Writer{
				Local: func(context.Context, string, string) error { return nil },
				SQL: func(_ context.Context, key, _ string) error {
					if key > "00000009" {
						return services.Errorf(services.Unavailable, "no primary")
					}
					return nil
				},
				// One that hangs until its time is over.
				Global: func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() },
			},
			Rate: 10, For: 2 * time.Second, Timeout: 3 * time.Second, Log: log,
			Acknowledged: func(e Entry) { told.Store(string(e.Kind)+e.Key, true) },
		}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if x := w[Local]; x.Attempted < 19 || x.Attempted > 21 || len(x.Entries) != x.Attempted || x.Refused != 0 {
			t.Errorf("local: %d attempted, %d acknowledged", x.Attempted, len(x.Entries))
		}
		if x := w[SQL]; len(x.Entries) != 10 || x.Refused != x.Attempted-10 || services.KindOf(x.Refusal) != services.Unavailable {
			t.Errorf("sql: %d acknowledged, %d refused of %d: %v", len(x.Entries), x.Refused, x.Attempted, x.Refusal)
		}
		if x := w[Global]; len(x.Entries) != 0 || x.Refused != x.Attempted || !errors.Is(x.Refusal, context.DeadlineExceeded) {
			t.Errorf("global: %d acknowledged, %d refused of %d: %v", len(x.Entries), x.Refused, x.Attempted, x.Refusal)
		}
		if _, ok := told.Load("sql00000009"); !ok {
			t.Error("nobody was told of an acknowledged write")
		}
	})
	es, err := readLog(path)
	if err != nil || len(es) < 29 {
		t.Errorf("%d entries in the log, %v", len(es), err)
	}
}

// shelf is a region in memory: what arrives, and when.
type shelf struct {
	mu   sync.Mutex
	down bool
	// there says from when on a write is readable.
	there map[Kind]map[string]time.Time
}

func (s *shelf) put(kind Kind, key string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.there == nil {
		s.there = map[Kind]map[string]time.Time{}
	}
	if s.there[kind] == nil {
		s.there[kind] = map[string]time.Time{}
	}
	s.there[kind][key] = at
}

func (s *shelf) Get(ctx context.Context, kind Kind, key string) (bool, error) {
	all, err := s.All(ctx, kind, []string{key})
	_, ok := all[key]
	return ok, err
}

func (s *shelf) All(_ context.Context, kind Kind, keys []string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, services.Errorf(services.Unavailable, "down")
	}
	out := map[string]string{}
	for _, k := range keys {
		if at, ok := s.there[kind][k]; ok && !at.After(time.Now()) {
			out[k] = "v"
		}
	}
	return out, nil
}

// TestStaleness measures from the acknowledgement to the first read, in full
// for those that wait behind an outage.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far := &shelf{}
		s := NewSampler("eu-west", far)
		ended := make(chan struct{})
		done := make(chan struct{})
		go func() { defer close(done); s.Run(t.Context(), ended) }()
		outage := time.Now().Add(5 * time.Second)
		for n := range 10 {
			at := time.Now()
			key := fmt.Sprint(n)
			arrives := at.Add(40 * time.Millisecond)
			if n >= 8 {
				arrives = outage
			}
			far.put(Local, key, arrives)
			s.Acknowledged(Entry{Kind: Local, Key: key, Value: "v", At: at})
			s.Acknowledged(Entry{Kind: Local, Key: "too soon", Value: "v", At: at.Add(time.Millisecond)})
			time.Sleep(200 * time.Millisecond)
		}
		close(ended)
		<-done
		got := s.Staleness()
		if len(got) != 1 || got[0].Region != "eu-west" || got[0].Kind != "local" || got[0].Samples != 10 || got[0].Unseen != 0 {
			t.Fatalf("%+v", got)
		}
		if x := got[0]; x.P50MS < 40 || x.P50MS > 100 || x.MaxMS < 3400 || x.MaxMS > 3500 || x.P99MS != x.MaxMS {
			t.Errorf("%+v", x)
		}
	})
}

func TestQuantile(t *testing.T) {
	d := []time.Duration{1 * time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond}
	for q, want := range map[float64]float64{0.5: 2, 0.99: 10, 1: 10, 0: 1} {
		if got := quantile(d, q); got != want {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}

// writes are acknowledged a second apart, from base on.
func writes(base time.Time, kinds map[Kind]int) map[Kind]*Writes {
	out := map[Kind]*Writes{}
	for kind, n := range kinds {
		w := &Writes{Attempted: n}
		for i := range n {
			w.Entries = append(w.Entries, Entry{Kind: kind, Key: fmt.Sprint(i), Value: "v", At: base.Add(time.Duration(i) * time.Second)})
		}
		out[kind] = w
	}
	return out
}

func TestJudge(t *testing.T) {
	type region map[Kind][]string // nil is down
	all := region{Local: {"0", "1", "2"}, Global: {"0", "1"}, SQL: {"0"}}
	for name, c := range map[string]struct {
		east, west   region
		lost         string // local global sql
		newest, old  float64
		reason, says string
		kind         services.Kind
	}{
		"everything everywhere":       {east: all, west: all, lost: "0 0 0", says: "nothing acknowledged is lost"},
		"the writer's region is lost": {west: region{Local: {"0"}, Global: {"0", "1"}, SQL: {"0"}}, lost: "2 0 0", newest: 0, old: 1000, says: "2 local writes are lost, acknowledged in the last 1000 ms"},
		"one in the middle is lost":   {west: region{Local: {"0", "2"}, Global: {"0", "1"}, SQL: {"0"}}, lost: "1 0 0", newest: 1000, old: 1000, says: "us-east did not answer"},
		"it is only late":             {east: all, west: region{Global: {"0", "1"}, SQL: {"0"}}, lost: "0 0 0", says: "missing in us-west (3)"},
		"a global write is lost":      {west: region{Local: {"0", "1", "2"}, Global: {"1"}, SQL: {"0"}}, lost: "0 1 0", says: "1 acknowledged global writes are LOST", reason: services.ReasonDataLost, kind: services.Internal},
		"an SQL commit is lost":       {east: region{Local: {"0", "1", "2"}, Global: {"0", "1"}}, west: region{Global: {"0"}}, lost: "0 0 1", says: "1 acknowledged sql writes are LOST", reason: services.ReasonDataLost, kind: services.Internal},
		"nobody answers":              {lost: "3 2 1", kind: services.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				regions := map[string]Reader{}
				for name, has := range map[string]region{"us-east": c.east, "us-west": c.west} {
					s := &shelf{down: has == nil}
					for kind, keys := range has {
						for _, k := range keys {
							s.put(kind, k, time.Now())
						}
					}
					regions[name] = s
				}
				rep := control.Check{Log: "the log"}
				err := Judge(t.Context(), &rep, writes(time.Now(), map[Kind]int{Local: 3, Global: 2, SQL: 1}), regions, 3*time.Second)
				if err == nil != (c.kind == "") || c.kind != "" && services.KindOf(err) != c.kind || services.ReasonOf(err) != c.reason {
					t.Errorf("error %v", err)
				}
				var lost []string
				for _, k := range rep.Kinds {
					lost = append(lost, fmt.Sprint(k.Lost))
				}
				if got := strings.Join(lost, " "); got != c.lost {
					t.Errorf("lost %s, want %s", got, c.lost)
				}
				if !strings.Contains(rep.Verdict, c.says) {
					t.Errorf("verdict %q", rep.Verdict)
				}
				if k := rep.Kinds[0]; c.kind != services.Unavailable && (k.LostNewestAgeMS != c.newest || k.LostOldestAgeMS != c.old) {
					t.Errorf("ages %+v", k)
				}
			})
		})
	}
}

// TestJudgeWaits for what is on its way, and no longer.
func TestJudgeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		near, far := &shelf{}, &shelf{}
		near.put(Local, "0", start)
		far.put(Local, "0", start.Add(2*time.Second))
		rep := control.Check{}
		err := Judge(t.Context(), &rep, writes(start, map[Kind]int{Local: 1}), map[string]Reader{"a": near, "b": far}, 10*time.Second)
		if took := time.Since(start); err != nil || took < 2*time.Second || took > 3*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		if rep.Regions[1].Missing["local"] != 0 {
			t.Errorf("%+v", rep.Regions)
		}
	})
}

// readLog reads a log back. A last line that was cut short by a crash was not
// acknowledged to anybody and is left out; anything else that is not an entry
// fails.
func readLog(path string) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	defer f.Close()
	var out []Entry
	r := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return out, nil // the end, or half a line
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("log %s, line %d: %w", path, n, err)
		}
		out = append(out, e)
	}
}
