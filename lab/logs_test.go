package lab

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

	"github.com/flix-lab/flix/services"
)

var logTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// record is a line as a host's handler writes it, some seconds after logTime.
func logRecord(seconds int, instance, msg string) string {
	return fmt.Sprintf(`{"time":%q,"level":"INFO","msg":%q,"instance":%q,"b":2,"a":"x"}`, logTime.Add(time.Duration(seconds)*time.Second).Format(time.RFC3339Nano), msg, instance) + "\n"
}

func logged(t *testing.T, p Paths, o LogOptions) []string {
	t.Helper()
	var out []string
	if err := Logs(t.Context(), testEnv(t), p, o, func(l LogLine) error { out = append(out, l.Msg); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// A name that is nobody's is refused, also where the lab follows; one that is
// declared and has said nothing is not, nor one that is gone and is in the logs.
func TestLogsKnowsNames(t *testing.T) {
	e := testEnv(t)
	l := testLab(t, e, "x")
	if err := l.want(preset(t, 1), 0); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, instanceLog(l.paths.Logs(), "us-east"), logRecord(1, "us-east/a/play/9", "one"))
	for name, ok := range map[string]bool{"": true, "lab": true, "us-east": true, "us-east/a/kv/1": true, "us-east/a/play/9": true, "us-eest": false, "us-east/a/play/8": false} {
		err := Logs(t.Context(), e, l.paths, LogOptions{Instance: name, Follow: !ok}, func(LogLine) error { return nil })
		if known := services.KindOf(err) != services.NotFound; known != ok || ok && err != nil {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

func TestLogsFilter(t *testing.T) {
	p := testPaths(t, testEnv(t), "x")
	if err := Logs(t.Context(), testEnv(t), p, LogOptions{}, nil); services.ReasonOf(err) != services.ReasonNoLab {
		t.Errorf("without a lab: %v", err)
	}
	mustWrite(t, instanceLog(p.Logs(), "us-east"), logRecord(1, "us-east/a/kv/1", "one")+logRecord(4, "us-east/a/kv/10", "four")+"not JSON\n"+logRecord(5, "us-east/b/dns/1", "five"))
	mustWrite(t, instanceLog(p.Logs(), "us-west"), logRecord(2, "us-west/a/kv/1", "two")+logRecord(3, "us-west/a/kv/1", "three")+strings.TrimSuffix(logRecord(9, "us-west/a/kv/1", "torn"), "\n"))
	mustWrite(t, filepath.Join(p.Logs(), "daemon.log"), logRecord(1, "daemon", "another file"))
	for _, c := range []struct {
		o    LogOptions
		want string
	}{
		{LogOptions{}, "one two three four five"}, // by time, over the files
		{LogOptions{Instance: "us-east"}, "one four five"},
		{LogOptions{Instance: "us-east/"}, "one four five"},
		{LogOptions{Instance: "us-east/a"}, "one four"},
		{LogOptions{Instance: "us-east/a/kv/1"}, "one"}, // not kv/10
		{LogOptions{Instance: "us"}, ""},
		{LogOptions{Since: logTime.Add(3 * time.Second)}, "three four five"},
		{LogOptions{Instance: "us-west", Since: logTime.Add(3 * time.Second)}, "three"},
	} {
		if got := strings.Join(logged(t, p, c.o), " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
	stop := errors.New("enough")
	if err := Logs(t.Context(), testEnv(t), p, LogOptions{}, func(LogLine) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a reader that has enough: %v", err)
	}
}

func TestParseLog(t *testing.T) {
	raw := logRecord(1, "us-east/a/kv/1", "hello")
	l, ok := parseLog([]byte(strings.TrimSpace(raw)))
	if !ok || !l.Time.Equal(logTime.Add(time.Second)) || l.Level != "INFO" || l.Instance != "us-east/a/kv/1" || l.Msg != "hello" || l.Attrs != "a=x b=2" || string(l.Raw)+"\n" != raw {
		t.Errorf("%+v", l)
	}
	if l, ok := parseLog([]byte(`{"msg":7}`)); !ok || !l.Time.IsZero() || l.Msg != "" {
		t.Errorf("odd types: %+v, %v", l, ok)
	}
	if _, ok := parseLog([]byte(`[1]`)); ok {
		t.Error("a list was taken for a record")
	}
}

// TestLogsFollow appends while a reader follows: a line in two parts, then a
// file that was not there before.
func TestLogsFollow(t *testing.T) {
	p := testPaths(t, testEnv(t), "x")
	mustWrite(t, instanceLog(p.Logs(), "us-east"), logRecord(1, "us-east/a/kv/1", "one"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	err := Logs(ctx, testEnv(t), p, LogOptions{Follow: true}, func(l LogLine) error {
		got = append(got, l.Msg)
		switch l.Msg {
		case "one":
			line := logRecord(2, "us-east/a/kv/1", "two")
			appendTo(t, instanceLog(p.Logs(), "us-east"), line[:20])
			mustWrite(t, instanceLog(p.Logs(), "eu-west"), logRecord(3, "eu-west/a/kv/1", "three"))
		case "three":
			line := logRecord(2, "us-east/a/kv/1", "two")
			appendTo(t, instanceLog(p.Logs(), "us-east"), line[20:])
		case "two":
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(got, []string{"one", "three", "two"}) {
		t.Errorf("followed %q to %v", got, err)
	}
}

func appendTo(t *testing.T, path, text string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseLog(f *testing.F) {
	f.Add([]byte(strings.TrimSpace(logRecord(1, "us-east/a/kv/1", "hello"))))
	f.Add([]byte(`{"time":1,"level":null,"msg":[],"instance":{}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseLog(b) })
}
