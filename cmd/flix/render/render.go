// Package render turns values into what a person reads: tables, progress,
// messages. It is the only home of tablewriter, color and lipgloss beside the
// dashboard. On a terminal it may redraw and colour; off it, it only appends
// plain lines.
package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/fatih/color"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// Screen is where output goes.
type Screen struct {
	W     io.Writer
	TTY   bool
	Color bool
	// Width tells the columns that there are now; 0 is unknown, as is nil.
	Width func() int
}

// Columns is the width of the screen as it is now, 0 where nobody knows it.
func (s Screen) Columns() int {
	if s.Width == nil {
		return 0
	}
	return s.Width()
}

// clip cuts a line, coloured or not, to the screen's width: a longer one would go
// on in the next row, and redrawing would leave a rest.
func (s Screen) clip(line string) string {
	w := s.Columns()
	if w <= 0 || lipgloss.Width(line) <= w {
		return line
	}
	return lipgloss.NewStyle().MaxWidth(w).Render(line)
}

// Page draws a text over the whole screen at once: what was there is overwritten
// line by line, so that nothing flickers.
func (s Screen) Page(text string) {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for line := range strings.Lines(text) {
		b.WriteString(s.clip(strings.TrimSuffix(line, "\n")) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	s.Printf("%s", b.String())
}

func (s Screen) paint(attrs ...color.Attribute) func(a ...any) string {
	c := color.New(attrs...)
	if s.Color {
		c.EnableColor()
	} else {
		c.DisableColor()
	}
	return c.SprintFunc()
}

// Good, Bad, Warn, Dim and Bold colour a word where colours are on.
func (s Screen) Good(t string) string { return s.paint(color.FgGreen)(t) }

// Bad marks a failure.
func (s Screen) Bad(t string) string { return s.paint(color.FgRed)(t) }

// Warn marks what needs a look.
func (s Screen) Warn(t string) string { return s.paint(color.FgYellow)(t) }

// Dim marks what is beside the point.
func (s Screen) Dim(t string) string { return s.paint(color.Faint)(t) }

// Bold marks what matters.
func (s Screen) Bold(t string) string { return s.paint(color.Bold)(t) }

// Printf writes a formatted line or part of one.
func (s Screen) Printf(format string, args ...any) { _, _ = fmt.Fprintf(s.W, format, args...) }

// Error prints what failed, why, and what to do next.
func (s Screen) Error(msg, reason, remedy string) {
	s.Printf("%s %s\n", s.Bad("flix:"), msg)
	if remedy != "" {
		s.Printf("%s %s\n", s.Dim("  →"), remedy)
	}
	_ = reason // for programs: it decides the exit code
}

// State prints a state as glyph and word, in colour where that is on.
func (s Screen) State(state string) string {
	switch state {
	case "ready", "running", "done", "UP":
		return s.Good("● " + state)
	case "degraded", "starting", "evacuated", "stopped", "planned", "queued":
		return s.Warn("◐ " + state)
	default:
		return s.Bad("○ " + state)
	}
}

// Table prints rows under a header, columns aligned, without borders.
func (s Screen) Table(header []string, rows [][]string) error {
	t := tablewriter.NewTable(s.W,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
		})),
		tablewriter.WithHeaderAlignment(tw.AlignLeft),
		tablewriter.WithRowAlignment(tw.AlignLeft),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Left: "", Right: "  ", Overwrite: true}),
	)
	// In capitals as they are: the library would take a hyphen for the end of a word.
	capitals := make([]string, len(header))
	for i, h := range header {
		capitals[i] = strings.ToUpper(h)
	}
	t.Header(capitals)
	if err := t.Bulk(rows); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	return t.Render()
}

// Bytes prints a number of bytes with a binary unit.
func Bytes[T ~int64 | ~uint64 | ~int](n T) string {
	f := float64(n)
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1024 {
			if u == "B" {
				return fmt.Sprintf("%.0f B", f)
			}
			return fmt.Sprintf("%.1f %s", f, u)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1f TiB", f)
}

// MS prints milliseconds as a person reads them.
func MS(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.2f s", ms/1000)
}

// Ago prints how long ago something was.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t).Round(time.Second)
	if d < time.Second {
		return "now"
	}
	return d.String()
}

// Bar draws a progress bar of a width in columns.
func Bar(percent float64, width int) string {
	n := int(percent / 100 * float64(width))
	n = max(0, min(width, n))
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}
