package access

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLogSaysWhatItLost(t *testing.T) {
	var b bytes.Buffer
	l := New(&b)
	for range maxLines + 3 { // nobody writes yet
		l.Note(Line{Path: "/early"})
	}
	l.Close()
	l.Run()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != maxLines {
		t.Fatalf("%d lines", len(lines))
	}
	b.Reset()
	l = &Log{w: &b, lines: l.lines, end: make(chan struct{})}
	l.lost.Store(3)
	l.Note(Line{Path: "/late"})
	l.Close()
	l.Run()
	var e Line
	if err := json.Unmarshal(b.Bytes(), &e); err != nil || e.Path != "/late" || e.Lost != 3 {
		t.Errorf("%s: %v", b.String(), err)
	}
}

func TestFileTurns(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f, err := OpenFile(root, "a.log", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one...\n", "two...\n", "three...\n", "a line longer than a file may be\n", "x\n"} {
		if n, err := f.Write([]byte(line)); err != nil || n != len(line) {
			t.Fatal(n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a.log": "x\n", "a.log.1": "a line longer than a file may be\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
}
