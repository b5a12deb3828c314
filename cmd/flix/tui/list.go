package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// filterLimit bounds a filter, in runes.
const filterLimit = 64

// list is a cursor over named rows that scroll, and a filter. The cursor stays
// with its row while others come and go.
type list struct {
	selected string // name of the row under the cursor
	index    int    // where that was, for when it is gone
	offset   int    // line of the cursor on the screen
	tail     bool   // the cursor stays on the last row
	filter   string
	typing   bool // keys go to the filter
}

// passes says whether a row is within the filter: every word of it occurs.
func (l list) passes(fields ...string) bool {
	if l.filter == "" {
		return true
	}
	text := strings.ToLower(strings.Join(fields, " "))
	for _, w := range strings.Fields(strings.ToLower(l.filter)) {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// cursor is the index of the row under the cursor, 0 of none.
func (l list) cursor(names []string) int {
	last := max(0, len(names)-1)
	if l.tail {
		return last
	}
	if i := slices.Index(names, l.selected); i >= 0 {
		return i
	}
	return min(l.index, last)
}

// name is the row under the cursor, "" of none.
func (l list) name(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[l.cursor(names)]
}

// window is the range of rows that fit, and the cursor.
func (l list) window(names []string, lines int) (from, to, cursor int) {
	lines = max(1, lines)
	cursor = l.cursor(names)
	offset := min(l.offset, lines-1)
	if l.tail {
		offset = lines - 1
	}
	from = max(0, min(cursor-offset, len(names)-lines))
	return from, min(len(names), from+lines), cursor
}

// move puts the cursor on a row, scrolling as little as it must.
func (l list) move(names []string, lines, to int) list {
	from, _, _ := l.window(names, lines)
	to = max(0, min(to, len(names)-1))
	l.index, l.offset = to, max(0, min(to-from, lines-1))
	if to < len(names) {
		l.selected = names[to]
	}
	l.tail = false
	return l
}

// update works a key in; names are the rows the filter passes now.
func (l list) update(m tea.KeyMsg, k listKeys, names []string, lines int) list {
	if l.typing {
		return l.edit(m, k)
	}
	at, page := l.cursor(names), max(1, lines-1)
	switch {
	case key.Matches(m, k.up):
		return l.move(names, lines, at-1)
	case key.Matches(m, k.down):
		return l.move(names, lines, at+1)
	case key.Matches(m, k.pageUp):
		return l.move(names, lines, at-page)
	case key.Matches(m, k.pageDown):
		return l.move(names, lines, at+page)
	case key.Matches(m, k.top):
		return l.move(names, lines, 0)
	case key.Matches(m, k.bottom):
		return l.move(names, lines, len(names)-1)
	case key.Matches(m, k.filter):
		l.typing = true
	case key.Matches(m, k.back):
		l.filter = ""
	}
	return l
}

func (l list) edit(m tea.KeyMsg, k listKeys) list {
	switch m.Type {
	case tea.KeyEnter:
		l.typing = false
		return l
	case tea.KeyEsc:
		l.filter, l.typing = "", false
	case tea.KeyBackspace:
		if r := []rune(l.filter); len(r) > 0 {
			l.filter = string(r[:len(r)-1])
		}
	case tea.KeyCtrlU:
		l.filter = ""
	case tea.KeyRunes, tea.KeySpace:
		r := append([]rune(l.filter), []rune(clean(string(m.Runes)))...)
		l.filter = string(r[:min(len(r), filterLimit)])
	}
	l.index = 0
	return l
}

// caption says how many rows of all are shown and why.
func (l list) caption(t theme, shown, all int, noun string) string {
	text := t.paint(dim, counted(shown, all)+" "+noun)
	switch {
	case l.typing:
		return text + "  " + t.paint(strong, "filter: "+l.filter+"_")
	case l.filter != "":
		return text + "  " + t.paint(strong, "filter: "+l.filter)
	}
	return text
}

// counted is "12" or "3 of 12".
func counted(shown, all int) string {
	if shown == all {
		return strconv.Itoa(all)
	}
	return fmt.Sprintf("%d of %d", shown, all)
}
