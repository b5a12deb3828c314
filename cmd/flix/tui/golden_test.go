package tui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/exp/teatest"

	"github.com/flix-lab/flix/lab/control"
)

// TestGolden draws states of the dashboard; -update writes what it draws.
func TestGolden(t *testing.T) {
	dead := append(feedAll(), clock(noon.Add(95*time.Second)),
		answer[control.Status]{err: control.ErrNoDaemon}, answer[control.FillStatus]{err: control.ErrNoDaemon}, stream{errStreamEnded})
	broken := append(feedAll(), answer[control.FillStatus]{err: errors.New("cache control: no region's answers")}, stream{errStreamEnded})
	for _, c := range []struct {
		name string
		msgs []tea.Msg
		keys []string
	}{
		{"regions", feedAll(), []string{"down"}},
		{"instances", feedAll(), []string{"2", "pgdown", "down"}},
		{"instances-filter", feedAll(), append([]string{"2", "/"}, letters("us-w fail")...)},
		{"instance", feedAll(), append(append([]string{"2", "/"}, letters("west/a/license")...), "enter", "enter")},
		{"plays", feedAll(), []string{"3"}},
		{"fill", feedAll(), []string{"4"}},
		{"events", feedAll(), []string{"5"}},
		{"commands", feedAll(), []string{"6", "down"}},
		{"commands-filter", feedAll(), append([]string{"6", "/"}, letters("open")...)},
		{"event", feedAll(), []string{"5", "enter"}},
		{"help", feedAll(), []string{"2", "?"}},
		{"command", feedAll(), []string{"4", "y"}},
		{"dead", dead, nil},
		{"broken", broken, []string{"4"}},
		{"first", nil, nil},
	} {
		for _, size := range [][2]int{{80, 24}, {120, 40}} {
			t.Run(fmt.Sprintf("%s-%dx%d", c.name, size[0], size[1]), func(t *testing.T) {
				view := shown(size[0], size[1], c.msgs, c.keys...).View()
				fits(t, view, size[0], size[1])
				if got := strings.Count(view, "\n") + 1; got != size[1] {
					t.Errorf("%d lines, want %d", got, size[1])
				}
				teatest.RequireEqualOutput(t, []byte(view))
			})
		}
	}
	for _, size := range [][2]int{{40, 10}, {79, 24}, {8, 3}} {
		t.Run(fmt.Sprintf("small-%dx%d", size[0], size[1]), func(t *testing.T) {
			view := shown(size[0], size[1], feedAll()).View()
			fits(t, view, size[0], size[1])
			teatest.RequireEqualOutput(t, []byte(view))
		})
	}
}

// fits fails when a view leaves its terminal or writes an escape sequence.
func fits(t *testing.T, view string, width, height int) {
	t.Helper()
	lines := strings.Split(view, "\n")
	if len(lines) > height {
		t.Errorf("%d lines on a terminal of %d", len(lines), height)
	}
	for _, l := range lines {
		if lipgloss.Width(l) > width {
			t.Errorf("%d columns on a terminal of %d: %q", lipgloss.Width(l), width, l)
		}
	}
	if strings.ContainsRune(view, '\x1b') {
		t.Error("an escape sequence without colours")
	}
}

// TestAnySize draws every screen at many sizes: none may break its frame.
func TestAnySize(t *testing.T) {
	for _, keys := range [][]string{{"1"}, {"2"}, {"2", "enter"}, {"3"}, {"3", "enter"}, {"4"}, {"5"}, {"5", "enter"}, {"6"}, {"?"}} {
		m := shown(80, 24, feedAll(), keys...)
		for width := 1; width < 160; width += 13 {
			for height := 1; height < 60; height += 7 {
				fits(t, send(m, tea.WindowSizeMsg{Width: width, Height: height}).View(), width, height)
			}
		}
	}
}

func TestViewIsDeterministic(t *testing.T) {
	for _, keys := range [][]string{{"1"}, {"2", "enter"}, {"5", "enter"}} {
		first := shown(100, 30, feedAll(), keys...).View()
		for range 5 {
			if again := shown(100, 30, feedAll(), keys...).View(); again != first {
				t.Fatalf("the same state looks different:\n%s\n%s", first, again)
			}
		}
	}
}

func TestColourMarksStatesOnly(t *testing.T) {
	r := lipgloss.NewRenderer(nil)
	r.SetColorProfile(2) // the sixteen colours
	th := themeOf(r)
	if got := th.cell(stateCell("failed")); !strings.Contains(got, "\x1b[31m") || !strings.Contains(got, "○ failed") {
		t.Errorf("a failed state is %q", got)
	}
	if got := th.cell(stateCell("running")); !strings.Contains(got, "\x1b[32m") || !strings.Contains(got, "● running") {
		t.Errorf("a running state is %q", got)
	}
	m := shown(80, 24, feedAll())
	m.theme = th
	view := m.View()
	for _, l := range strings.Split(view, "\n") {
		if lipgloss.Width(l) > 80 {
			t.Errorf("colours broke a line: %q", l)
		}
	}
	if !strings.Contains(view, "\x1b[33m◐ degraded") {
		t.Error("a degraded region is not marked")
	}
}
