package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
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

// eventSource is the name under which the lab's events are in its logs.
const eventSource = "lab"

// pollLogs is how often followed logs are looked at for new lines.
const pollLogs = 100 * time.Millisecond

// Logs calls f for what the instances logged and what happened in the lab, in
// order of time; with Follow it goes on until ctx ends. The daemon is not
// needed for it. It holds a few lines of each log at a time, and with Since
// reads little that is older.
func Logs(ctx context.Context, env Env, p Paths, o LogOptions, f func(LogLine) error) error {
	if !p.Exists() {
		return noLab(p.Name)
	}
	t := &logTail{paths: p, o: o, files: map[string]*logFile{}}
	cs, err := containerLogs(ctx, env, p, o)
	if err != nil {
		return err
	}
	if cs != nil {
		defer cs.close()
	}
	known := false
	emit := func(l LogLine) error {
		if !matches(l.Instance, o.Instance) {
			return nil
		}
		known = true
		if l.Time.Before(o.Since) {
			return nil
		}
		return f(l)
	}
	err = t.history(ctx, cs, emit)
	if err == nil && !known {
		err = declares(p, o.Instance)
	}
	if err != nil || !o.Follow {
		return err
	}
	return t.follow(ctx, cs, emit)
}

// declares refuses the name of nothing that the lab is to have; who is gone may be
// in its logs still.
func declares(p Paths, name string) error {
	i, err := readIntent(p.Dir)
	if err != nil || i == nil || matches(eventSource, name) {
		return err
	}
	for _, x := range i.instances() {
		if matches(x.ID, name) {
			return nil
		}
	}
	return services.Errorf(services.NotFound, "INSTANCE: nothing is called %q, and nothing in the logs was", name).
		WithRemedy("write a whole name or the beginning of one, like us-east/a; flix lab status -o wide%s lists them", nameFlag(p.Name))
}

// logTail knows how far the lab's log files have been read.
type logTail struct {
	paths Paths
	o     LogOptions
	files map[string]*logFile
}

// fresh opens every file that has lines which were not read yet.
func (t *logTail) fresh() (map[*logFile]*fileLines, error) {
	hosts, err := filepath.Glob(instanceLog(t.paths.Logs(), "*"))
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	for _, path := range hosts {
		if t.files[path] == nil && t.o.Instance != eventSource {
			t.files[path] = &logFile{path: path, parse: parseLog}
		}
	}
	if path := eventsPath(t.paths); t.files[path] == nil && matches(eventSource, t.o.Instance) {
		t.files[path] = &logFile{path: path, parse: parseEvent}
	}
	out := map[*logFile]*fileLines{}
	for _, f := range t.files {
		lines, err := f.fresh(t.o.Since)
		if err != nil {
			return out, err
		}
		if lines != nil {
			out[f] = lines
		}
	}
	return out, nil
}

// read merges what is new in the files with other streams, and closes them all.
func (t *logTail) read(others []logLines, emit func(LogLine) error) error {
	files, err := t.fresh()
	streams := slices.Clone(others)
	for _, path := range slices.Sorted(maps.Keys(t.files)) {
		if lines := files[t.files[path]]; lines != nil {
			streams = append(streams, lines)
		}
	}
	if err == nil {
		err = merge(streams, emit)
	}
	for f, lines := range files {
		f.offset = lines.offset
	}
	for _, s := range streams {
		err = errors.Join(err, s.Close())
	}
	return err
}

func (t *logTail) history(ctx context.Context, cs *containerTail, emit func(LogLine) error) error {
	var streams []logLines
	if cs != nil {
		var err error
		if streams, err = cs.history(ctx); err != nil {
			return err
		}
	}
	return t.read(streams, emit)
}

func (t *logTail) follow(ctx context.Context, cs *containerTail, emit func(LogLine) error) error {
	tick := time.NewTicker(pollLogs)
	defer tick.Stop()
	for {
		var streams []logLines
		if cs != nil {
			lines, err := cs.fresh(ctx)
			if err != nil {
				return err
			}
			streams = append(streams, lines)
		}
		if err := t.read(streams, emit); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func matches(instance, want string) bool {
	return want == "" || instance == want || strings.HasPrefix(instance, strings.TrimSuffix(want, "/")+"/")
}

func parseLog(b []byte) (LogLine, bool) {
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // shown as it was written: an AS number of ten digits is no 4.2e+09
	if err := d.Decode(&m); err != nil {
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

// parseEvent reads a line of the event log as one of the lab itself.
func parseEvent(b []byte) (LogLine, bool) {
	var e control.Event
	if err := json.Unmarshal(b, &e); err != nil {
		return LogLine{}, false
	}
	l := LogLine{Time: e.At, Level: "INFO", Instance: eventSource, Msg: e.Text, Attrs: "kind=" + e.Kind}
	if e.Subject != "" {
		l.Attrs += " subject=" + e.Subject
	}
	return l.marshalled(map[string]any{"kind": e.Kind, "subject": e.Subject})
}

// textLine is a line of text that a store wrote.
func textLine(at time.Time, instance string, text []byte) (LogLine, bool) {
	printable := func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1 // it would be a command to the reader's terminal
		}
		return r
	}
	l := LogLine{Time: at, Instance: instance, Msg: strings.Map(printable, strings.ToValidUTF8(string(text), "\ufffd"))}
	return l.marshalled(nil)
}

// marshalled gives a line that was not JSON the form of those that are.
func (l LogLine) marshalled(more map[string]any) (LogLine, bool) {
	m := map[string]any{"time": l.Time.UTC().Format(time.RFC3339Nano), "level": l.Level, "msg": l.Msg, "instance": l.Instance}
	maps.Copy(m, more)
	var err error
	l.Raw, err = json.Marshal(m)
	return l, err == nil
}
