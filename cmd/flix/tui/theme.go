package tui

import (
	"io"
	"strings"
	"unicode"

	"github.com/charmbracelet/lipgloss"
)

// level is what a colour means here; nothing is coloured for looks.
type level int

const (
	plain level = iota
	good
	warn
	bad
	dim
	strong
)

// theme draws levels. Without colours it writes no escape sequence at all.
type theme struct {
	styles map[level]lipgloss.Style
	bare   lipgloss.Style
}

// newTheme returns the theme of a terminal.
func newTheme(out io.Writer, color bool) theme {
	if !color {
		out = io.Discard // whatever is no terminal has no colours
	}
	return themeOf(lipgloss.NewRenderer(out))
}

func themeOf(r *lipgloss.Renderer) theme {
	s := r.NewStyle
	return theme{bare: s(), styles: map[level]lipgloss.Style{
		good:   s().Foreground(lipgloss.Color("2")),
		warn:   s().Foreground(lipgloss.Color("3")),
		bad:    s().Foreground(lipgloss.Color("1")),
		dim:    s().Faint(true),
		strong: s().Bold(true),
	}}
}

func (t theme) paint(l level, text string) string {
	s, ok := t.styles[l]
	if !ok || text == "" {
		return text
	}
	return s.Render(text)
}

// clip cuts a line, styled or not, to a width in columns.
func (t theme) clip(line string, width int) string {
	if width <= 0 {
		return ""
	}
	if lipgloss.Width(line) <= width {
		return line
	}
	return t.bare.MaxWidth(width).Render(line)
}

// fit makes a text from outside safe to draw and cuts it to a width, with an
// ellipsis where something is missing.
func (t theme) fit(text string, width int) string {
	text = clean(text)
	if lipgloss.Width(text) <= width {
		return text
	}
	if width <= 1 {
		return t.clip(text, width)
	}
	return t.clip(text, width-1) + "…"
}

// fitMiddle is fit that cuts out the middle.
func (t theme) fitMiddle(text string, width int) string {
	text = clean(text)
	if lipgloss.Width(text) <= width || width < 5 {
		return t.fit(text, width)
	}
	head := t.clip(text, width/2)
	tail := []rune(text)
	for lipgloss.Width(head)+1+lipgloss.Width(string(tail)) > width {
		tail = tail[1:]
	}
	return head + "…" + string(tail)
}

// wrap breaks a text from outside into lines of a width.
func (t theme) wrap(text string, width int) []string {
	lines := strings.Split(t.bare.Width(max(1, width)).Render(clean(text)), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return lines
}

// clean replaces what could move the cursor or turn the line around: texts of
// the lab hold names that others chose.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, text)
}

// levelOf says what a state means.
func levelOf(state string) level {
	switch state {
	case "ready", "running", "done", "playing", "up", "UP":
		return good
	case "degraded", "starting", "evacuated", "planned", "queued", "stopped", "rolled_back":
		return warn
	}
	return bad
}

// stateCell is a state as glyph and word, at its level.
func stateCell(state string) cell { return stateAt(levelOf(state), state) }

// stateAt is for where a word means something else than it mostly does.
func stateAt(l level, state string) cell {
	if state == "" {
		state = "unknown"
	}
	return cell{glyph(l) + " " + clean(state), l}
}

func glyph(l level) string {
	switch l {
	case good:
		return "●"
	case warn:
		return "◐"
	case bad:
		return "○"
	}
	return "·"
}

func (t theme) cell(c cell) string { return t.paint(c.level, c.text) }
