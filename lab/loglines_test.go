package lab

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// longLog writes a log of n lines, one a second from logTime on.
func longLog(t testing.TB, n int) string {
	t.Helper()
	var b strings.Builder
	for k := range n {
		b.WriteString(logRecord(k, "us-east/a/kv/1", fmt.Sprintf("line %d %s", k, strings.Repeat("x", 100))))
	}
	path := filepath.Join(t.TempDir(), "x.jsonl")
	mustWrite(t, path, b.String())
	return path
}

// TestSeekTime finds the beginning of what is young without reading the rest.
func TestSeekTime(t *testing.T) {
	const lines = 20_000
	f, err := os.Open(longLog(t, lines))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for _, second := range []int{-5, 0, 1, 777, lines / 2, lines - 1, lines + 5} {
		at := logTime.Add(time.Duration(second) * time.Second)
		offset, err := seekTime(f, at, parseLog)
		if err != nil {
			t.Fatal(err)
		}
		whole := min(max(float64(second)/lines, 0), 1) * float64(st.Size())
		if float64(offset) > whole || float64(offset) < whole-3*seekBlock {
			t.Errorf("second %d: offset %d, it is at about %.0f of %d", second, offset, whole, st.Size())
		}
		l, err := openLines(f.Name(), 0, at, parseLog)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for {
			line, err := l.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			found = found || line.Time.Equal(at)
		}
		if found != (second >= 0 && second < lines) {
			t.Errorf("second %d: found %v", second, found)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMerge puts streams in order that are nearly so, and holds few lines.
func TestMerge(t *testing.T) {
	const each = 500
	var streams []logLines
	ahead := 0
	for range 4 {
		var b batch
		for k := range each {
			late := time.Duration(rand.IntN(lookAhead/2)) * time.Second // no more than that many places
			b = append(b, LogLine{Time: logTime.Add(time.Duration(k)*time.Second - late)})
		}
		streams = append(streams, &counting{&b, &ahead})
	}
	var last time.Time
	n := 0
	if err := merge(streams, func(l LogLine) error {
		n++
		if l.Time.Before(last) {
			t.Errorf("line %d is of %v, after %v", n, l.Time, last)
		}
		if last = l.Time; ahead-n > 4*lookAhead {
			t.Errorf("%d lines were read for %d", ahead, n)
		}
		return nil
	}); err != nil || n != 4*each {
		t.Errorf("%d lines, %v", n, err)
	}
	stop := errors.New("broken")
	if err := merge([]logLines{&failing{stop}}, nil); !errors.Is(err, stop) {
		t.Errorf("a stream that fails: %v", err)
	}
}

type counting struct {
	logLines
	read *int
}

func (c *counting) next() (LogLine, error) {
	l, err := c.logLines.next()
	if err == nil {
		*c.read++
	}
	return l, err
}

type failing struct{ err error }

func (f *failing) next() (LogLine, error) { return LogLine{}, f.err }
func (*failing) Close() error             { return nil }

// TestLogsWithEvents has the lab's events between what instances log.
func TestLogsWithEvents(t *testing.T) {
	p := testPaths(t, testEnv(t), "x")
	mustWrite(t, instanceLog(p.Logs(), "us-east"), logRecord(1, "us-east/a/kv/1", "one")+logRecord(4, "us-east/a/kv/1", "four"))
	mustWrite(t, eventsPath(p), fmt.Sprintf(`{"seq":1,"at":%q,"kind":"lab.up","subject":"x","text":"two"}`, logTime.Add(2*time.Second).Format(time.RFC3339Nano))+"\n"+
		fmt.Sprintf(`{"seq":2,"at":%q,"kind":"lab.stop","text":"five"}`, logTime.Add(5*time.Second).Format(time.RFC3339Nano))+"\n")
	for want, o := range map[string]LogOptions{
		"one two four five": {},
		"two five":          {Instance: "lab"},
		"one four":          {Instance: "us-east"},
		"four five":         {Since: logTime.Add(3 * time.Second)},
	} {
		if got := strings.Join(logged(t, p, o), " "); got != want {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
	l, ok := parseEvent([]byte(`{"at":"2026-03-01T12:00:00Z","kind":"lab.up","subject":"x","text":"hello"}`))
	if !ok || l.Instance != eventSource || l.Level != "INFO" || l.Attrs != "kind=lab.up subject=x" || string(l.Raw) != `{"instance":"lab","kind":"lab.up","level":"INFO","msg":"hello","subject":"x","time":"2026-03-01T12:00:00Z"}` {
		t.Errorf("%+v %s", l, l.Raw)
	}
	if _, ok := parseEvent([]byte("torn")); ok {
		t.Error("no JSON was taken for an event")
	}
}

// TestTextLine keeps a store's text from commanding the reader's terminal.
func TestTextLine(t *testing.T) {
	l, ok := textLine(logTime, "us-east/a/kv/1", []byte("\x1b[31mred\tand \xff\x07"))
	if !ok || l.Msg != "[31mred\tand \ufffd" || l.Instance != "us-east/a/kv/1" || !l.Time.Equal(logTime) {
		t.Errorf("%+v", l)
	}
	again, ok := parseLog(l.Raw)
	if !ok || again.Msg != l.Msg || !again.Time.Equal(l.Time) || again.Instance != l.Instance {
		t.Errorf("its JSON is %s", l.Raw)
	}
}

// TestLogNumbers shows numbers as they were written.
func TestLogNumbers(t *testing.T) {
	l, ok := parseLog([]byte(`{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"up","as":4200000001,"ratio":0.25,"big":18446744073709551615}`))
	if want := "as=4200000001 big=18446744073709551615 ratio=0.25"; !ok || l.Attrs != want {
		t.Errorf("%q, want %q", l.Attrs, want)
	}
}

// TestLogsRestart follows a file that is replaced by a shorter one.
func TestLogsRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	mustWrite(t, path, logRecord(1, "a", "one")+logRecord(2, "a", "two"))
	f := &logFile{path: path, parse: parseLog}
	read := func() []string {
		lines, err := f.fresh(time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if lines == nil {
			return nil
		}
		defer lines.Close()
		var out []string
		for {
			l, err := lines.next()
			if err != nil {
				f.offset = lines.offset
				return out
			}
			out = append(out, l.Msg)
		}
	}
	for _, want := range [][]string{{"one", "two"}, nil} {
		if got := read(); !slices.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
	}
	mustWrite(t, path, logRecord(3, "a", "three"))
	if got := read(); !slices.Equal(got, []string{"three"}) {
		t.Errorf("after it was replaced: %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != nil {
		t.Errorf("after it is gone: %q", got)
	}
}
