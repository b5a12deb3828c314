package tui

import (
	"fmt"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// detail is one thing in full, over its list, scrolled by lines.
type detail struct {
	of  string // its name; "" when none is open
	top int
}

// update scrolls; lines is how many there are, room how many fit.
func (d detail) update(m tea.KeyMsg, k listKeys, lines, room int) detail {
	last := max(0, lines-room)
	d.top = min(d.top, last)
	switch {
	case key.Matches(m, k.back):
		return detail{}
	case key.Matches(m, k.up):
		d.top--
	case key.Matches(m, k.down):
		d.top++
	case key.Matches(m, k.pageUp):
		d.top -= room
	case key.Matches(m, k.pageDown):
		d.top += room
	case key.Matches(m, k.top):
		d.top = 0
	case key.Matches(m, k.bottom):
		d.top = last
	}
	d.top = max(0, min(d.top, last))
	return d
}

func (d detail) view(lines []string, room int) []string {
	top := max(0, min(d.top, len(lines)-room))
	return lines[top:min(len(lines), top+room)]
}

// fact is a line of a detail: a name and a text from outside.
type fact struct {
	name  string
	value string
	level level
}

// facts draws names and values in two columns; long values wrap.
func facts(f frame, all []fact) []string {
	const names = 12
	var lines []string
	for _, x := range all {
		for i, text := range f.theme.wrap(x.value, f.width-names-3) {
			name := x.name
			if i > 0 {
				name = ""
			}
			lines = append(lines, f.theme.paint(dim, fmt.Sprintf("  %-*s", names, name))+" "+f.theme.paint(x.level, text))
		}
	}
	return lines
}
