package tui

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab/control"
)

// commands lists the resilience commands of each role.
type commands struct {
	list list
	k    listKeys
}

func (commands) title() string            { return "commands" }
func (commands) command(frame) string     { return "command ls" }
func (s commands) typing() bool           { return s.list.typing }
func (s commands) keys() []key.Binding    { return append(s.k.moves(), s.k.filter, s.k.back) }
func (commands) rows(f frame) (lines int) { return f.height - 4 }

func (s commands) shown(d data) (out []control.Command, names []string) {
	for _, c := range d.commands.value {
		if s.list.passes(c.Role, c.Name, c.Group, breakerCell(c).text) {
			out = append(out, c)
			names = append(names, c.Role+"/"+c.Name)
		}
	}
	return out, names
}

func (s commands) update(m tea.KeyMsg, f frame) (screen, *jump) {
	_, names := s.shown(f.data)
	s.list = s.list.update(m, s.k, names, s.rows(f))
	return s, nil
}

func (s commands) view(f frame) []string {
	if f.data.commands.at.IsZero() {
		return []string{f.theme.paint(dim, "no answer yet")}
	}
	all := f.data.commands.value
	shown, names := s.shown(f.data)
	lines := []string{trouble(f, all), "", s.list.caption(f.theme, len(shown), len(all), "commands")}
	from, to, cursor := s.list.window(names, s.rows(f))
	cols := []column{
		{title: "role", least: 9, fair: 10}, {title: "command", least: 14, fair: 18, middle: true}, {title: "calls", drop: 3}, {title: "breaker"},
		{title: "rate/s", right: true}, {title: "errors", right: true}, {title: "p50", right: true, drop: 2}, {title: "p99", right: true},
		{title: "running", right: true, drop: 1}, {title: "fallback", right: true},
	}
	rows := make([][]cell, 0, len(shown))
	for _, c := range shown {
		rows = append(rows, []cell{
			{c.Role, plain}, {c.Name, plain}, {c.Group, plain}, breakerCell(c), {fmt.Sprintf("%.1f", c.Rate), plain}, errorCell(c),
			{callTime(c, c.P50MS), plain}, {callTime(c, c.P99MS), plain}, {runningOf(c), plain}, {fmt.Sprint(c.Window["fallback_success"]), plain},
		})
	}
	return append(lines, f.theme.table(cols, rows, f.width, from, to, cursor)...)
}

// trouble is the line that matters: what does not go through now.
func trouble(f frame, all []control.Command) string {
	var names []string
	for _, c := range all {
		if b := breakerCell(c); b.level != good {
			names = append(names, c.Role+"/"+c.Name+" "+strings.TrimSpace(strings.TrimLeft(b.text, "●◐○ ")))
		}
	}
	if len(names) == 0 {
		return f.theme.paint(good, f.theme.fit(glyph(good)+" every breaker is closed", f.width))
	}
	return f.theme.paint(bad, f.theme.fit(glyph(bad)+" "+strings.Join(names, " · "), f.width))
}

func breakerCell(c control.Command) cell {
	switch {
	case c.Forced != "":
		return cell{glyph(warn) + " held " + c.Forced, warn}
	case c.Breaker == "closed":
		return cell{glyph(good) + " closed", good}
	case c.Breaker == "half_open":
		return cell{glyph(warn) + " half open", warn}
	}
	return cell{glyph(bad) + " " + c.Breaker, bad}
}

func errorCell(c control.Command) cell {
	l := plain
	if c.ErrorPercent > 0 {
		l = bad
	}
	return cell{fmt.Sprintf("%.0f %%", c.ErrorPercent), l}
}

// callTime is "-" where nothing was called.
func callTime(c control.Command, ms float64) string {
	if c.MaxMS == 0 {
		return "-"
	}
	return render.MS(ms)
}

// runningOf is calls under way of those that may be.
func runningOf(c control.Command) string {
	most := c.MaxConcurrent
	if c.Limit > 0 {
		most = min(most, c.Limit)
	}
	return fmt.Sprintf("%d/%d", c.InFlight, most)
}
