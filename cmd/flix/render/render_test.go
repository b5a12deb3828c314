package render

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestUnits(t *testing.T) {
	for _, r := range []struct{ got, want string }{
		{Bytes(int64(0)), "0 B"},
		{Bytes(int64(1023)), "1023 B"},
		{Bytes(uint64(1024)), "1.0 KiB"},
		{Bytes(3 << 20), "3.0 MiB"},
		{Bytes(int64(5) << 40), "5.0 TiB"},
		{Bytes(int64(5) << 52), "20480.0 TiB"},
		{MS(0.04), "0.0 ms"},
		{MS(9.96), "10.0 ms"},
		{MS(42.4), "42 ms"},
		{MS(1000), "1.00 s"},
		{Bar(0, 4), "░░░░"},
		{Bar(50, 4), "██░░"},
		{Bar(120, 4), "████"},
		{Bar(-3, 4), "░░░░"},
		{Indent("a\nb\n", 2), "  a\n  b"},
	} {
		if r.got != r.want {
			t.Errorf("got %q, want %q", r.got, r.want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, r := range []struct {
		t    time.Time
		want string
	}{
		{time.Time{}, "-"},
		{now.Add(-200 * time.Millisecond), "now"},
		{now.Add(-90 * time.Second), "1m30s"},
	} {
		if got := Ago(r.t, now); got != r.want {
			t.Errorf("Ago(%v) = %q, want %q", r.t, got, r.want)
		}
	}
}

// TestTableAlignsColumns measures with plain text: columns begin where the
// header's do, whatever the cells hold.
func TestTableAlignsColumns(t *testing.T) {
	var b bytes.Buffer
	if err := (Screen{W: &b}).Table([]string{"name", "state"}, [][]string{{"a-long-name", "up"}, {"x", "down"}}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3:\n%s", len(lines), b.String())
	}
	at := strings.Index(lines[0], "STATE")
	if at < 0 || strings.Index(lines[1], "up") != at || strings.Index(lines[2], "down") != at {
		t.Errorf("columns are not aligned:\n%s", b.String())
	}
}

func TestColourOnlyWhereItIsOn(t *testing.T) {
	plain, painted := Screen{}, Screen{Color: true}
	if got := plain.Bad("x"); got != "x" {
		t.Errorf("without colour: %q", got)
	}
	if got := painted.Bad("x"); !strings.HasPrefix(got, "\x1b[31m") || !strings.Contains(got, "x") {
		t.Errorf("with colour: %q", got)
	}
	for state, want := range map[string]string{"running": "● running", "degraded": "◐ degraded", "gone": "○ gone"} {
		if got := plain.State(state); got != want {
			t.Errorf("State(%q) = %q, want %q", state, got, want)
		}
	}
}

// TestStepsOffTerminal checks that nothing is redrawn where a program reads:
// one line per finished step and note, no control sequence, no live line.
func TestStepsOffTerminal(t *testing.T) {
	var b bytes.Buffer
	s := NewSteps(Screen{W: &b})
	s.Begin("prepare")
	s.Live("buffer %d s", 3)
	s.Note("a note")
	s.Done("prepare", "32 to start", 12)
	s.Close()
	if got, want := b.String(), "· a note\n✓ prepare     12 ms  32 to start\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPanelFitsTheTerminal draws lines that are wider than the terminal, which
// broke them and left a rest of each when it drew again.
func TestPanelFitsTheTerminal(t *testing.T) {
	var b bytes.Buffer
	width := 10
	p := NewPanel(Screen{W: &b, TTY: true, Width: func() int { return width }})
	p.Show(strings.Repeat("a", 30), "日本語日本語日本語", "short")
	want := strings.Repeat("a", 10) + "\n日本語日本\nshort\n"
	if got := b.String(); got != want {
		t.Errorf("drew %q, want %q", got, want)
	}
	b.Reset()
	width = 4 // three rows of each of the two that are ten columns wide, two of the last
	p.Close()
	if got, want := b.String(), "\x1b[8A\r\x1b[J"; got != want {
		t.Errorf("cleared by %q, want %q", got, want)
	}
}

// TestPageOverwrites draws a page line by line: a screen that is cleared first
// flickers.
func TestPageOverwrites(t *testing.T) {
	var b bytes.Buffer
	Screen{W: &b, TTY: true, Width: func() int { return 5 }}.Page("one\na longer line\n")
	if got, want := b.String(), "\x1b[Hone\x1b[K\na lon\x1b[K\n\x1b[J"; got != want {
		t.Errorf("drew %q, want %q", got, want)
	}
}

func TestLiveLineFitsTheTerminal(t *testing.T) {
	var b bytes.Buffer
	s := NewSteps(Screen{W: &b, TTY: true, Width: func() int { return 10 }})
	s.Live("%s", strings.Repeat("é", 30))
	s.Close()
	if n := strings.Count(b.String(), "é"); n != 10 {
		t.Errorf("%d columns drawn, want 10", n)
	}
}
