package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
)

// LogOptions select log lines.
type LogOptions struct {
	// Instance is a whole name or the beginning of one; "" is all.
	Instance string
	Since    time.Time
	Follow   bool
}

// LogLine is one record of an instance.
type LogLine struct {
	Time     time.Time
	Level    string
	Instance string
	Msg      string
	// Attrs are the other attributes as "name=value" text.
	Attrs string
	Raw   []byte
}

// PastEvents reads the event log of a lab whose daemon may be dead.
func PastEvents(p Paths) ([]control.Event, error) {
	if !p.Exists() {
		return nil, noLab(p.Name)
	}
	return control.ReadLog(eventsPath(p))
}

// pollLogs is how often followed files are looked at for new lines.
const pollLogs = 100 * time.Millisecond

// Logs calls f for the lines of every host's log file, in order of time; with
// Follow it goes on until ctx ends.
func Logs(ctx context.Context, p Paths, o LogOptions, f func(LogLine) error) error {
	if !p.Exists() {
		return noLab(p.Name)
	}
	offsets := map[string]int64{}
	for {
		files, err := filepath.Glob(instanceLog(p.Logs(), "*"))
		if err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		var lines []LogLine
		for _, file := range files {
			ls, end, err := readLines(file, offsets[file], o)
			if err != nil {
				return err
			}
			offsets[file] = end
			lines = append(lines, ls...)
		}
		slices.SortStableFunc(lines, func(a, b LogLine) int { return a.Time.Compare(b.Time) })
		for _, l := range lines {
			if err := f(l); err != nil {
				return err
			}
		}
		if !o.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollLogs):
		}
	}
}

// readLines reads whole lines from an offset on and returns where it stopped.
func readLines(file string, from int64, o LogOptions) ([]LogLine, int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, from, fmt.Errorf("logs: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, from, fmt.Errorf("logs: %w", err)
	}
	var out []LogLine
	r := bufio.NewReader(f)
	for {
		b, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // the rest is not a whole line yet
			return out, from, nil
		}
		if err != nil {
			return out, from, fmt.Errorf("logs: %w", err)
		}
		from += int64(len(b))
		l, ok := parseLog(bytes.TrimSpace(b))
		if ok && matches(l.Instance, o.Instance) && !l.Time.Before(o.Since) {
			out = append(out, l)
		}
	}
}

func matches(instance, want string) bool {
	return want == "" || instance == want || strings.HasPrefix(instance, strings.TrimSuffix(want, "/")+"/")
}

func parseLog(b []byte) (LogLine, bool) {
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return LogLine{}, false
	}
	text := func(k string) string { s, _ := m[k].(string); delete(m, k); return s }
	l := LogLine{Raw: b}
	l.Time, _ = time.Parse(time.RFC3339Nano, text("time")) // zero when it has none
	l.Level, l.Instance, l.Msg = text("level"), text("instance"), text("msg")
	var attrs []string
	for k, v := range m {
		attrs = append(attrs, fmt.Sprintf("%s=%v", k, v))
	}
	slices.Sort(attrs)
	l.Attrs = strings.Join(attrs, " ")
	return l, true
}
