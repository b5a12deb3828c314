package tui

import (
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// column of a table.
type column struct {
	title string
	// least is the width it may shrink to; 0 never shrinks.
	least int
	// fair is the width that other columns are dropped for; least if 0.
	fair  int
	right bool
	// drop is when it goes where there is no room: the highest first, 0 never.
	drop int
	// grow lets it have the room that is left.
	grow bool
	// middle cuts out the middle of a text: its end tells as much as its start.
	middle bool
}

// cell is a text from outside and what its colour means.
type cell struct {
	text  string
	level level
}

// cursorWidth is the room of the mark before a row.
const cursorWidth = 2

// layout gives each column its width, 0 to a column left out, and says how far
// apart they stand: closer where room is short.
func layout(cols []column, rows [][]cell, width int) (widths []int, gutter int) {
	widths = natural(cols, rows)
	gutter = 2
	if total(widths, gutter) > width {
		gutter = 1
	}
	for {
		over := total(widths, gutter) - width
		c := firstDropped(cols, widths)
		switch {
		case over <= 0:
			return grown(cols, widths, width, gutter), gutter
		case spare(cols, widths, column.fairly) >= over:
			shrink(cols, widths, column.fairly)
		case c >= 0:
			widths[c] = 0
		case spare(cols, widths, column.atLeast) > 0:
			shrink(cols, widths, column.atLeast)
		default:
			return widths, gutter // the line is clipped
		}
	}
}

// grown gives the room that is left to the first column that wants it.
func grown(cols []column, widths []int, width, gutter int) []int {
	for c, col := range cols {
		if col.grow && widths[c] > 0 {
			widths[c] += width - total(widths, gutter)
			break
		}
	}
	return widths
}

// natural is the width that every cell of a column fits in.
func natural(cols []column, rows [][]cell) []int {
	widths := make([]int, len(cols))
	for c, col := range cols {
		widths[c] = lipgloss.Width(col.title)
		for _, r := range rows {
			widths[c] = max(widths[c], lipgloss.Width(r[c].text))
		}
	}
	return widths
}

func total(widths []int, gutter int) int {
	sum := cursorWidth - gutter
	for _, w := range widths {
		if w > 0 {
			sum += w + gutter
		}
	}
	return sum
}

func (c column) atLeast() int { return c.least }
func (c column) fairly() int  { return max(c.fair, c.least) }

// spare is what the columns that shrink can give up before a floor.
func spare(cols []column, widths []int, floor func(column) int) int {
	sum := 0
	for c, col := range cols {
		if col.least > 0 {
			sum += max(0, widths[c]-floor(col))
		}
	}
	return sum
}

// shrink takes a column of width from the widest above a floor.
func shrink(cols []column, widths []int, floor func(column) int) {
	best := -1
	for c, col := range cols {
		if col.least > 0 && widths[c] > floor(col) && (best < 0 || widths[c] > widths[best]) {
			best = c
		}
	}
	widths[best]--
}

func firstDropped(cols []column, widths []int) int {
	best := -1
	for c, col := range cols {
		if col.drop > 0 && widths[c] > 0 && (best < 0 || col.drop > cols[best].drop) {
			best = c
		}
	}
	return best
}

// table draws a header and the rows from to to (exclusive); the row at cursor
// is marked, -1 marks none. Widths come from all rows, so that scrolling moves
// no column.
func (t theme) table(cols []column, rows [][]cell, width, from, to, cursor int) []string {
	widths, gutter := layout(cols, rows, width)
	head := make([]cell, len(cols))
	for c, col := range cols {
		head[c] = cell{strings.ToUpper(col.title), dim}
	}
	lines := []string{t.row(cols, widths, gutter, head, "  ")}
	for i := from; i < to; i++ {
		mark := "  "
		if i == cursor {
			mark = t.paint(strong, "> ")
		}
		lines = append(lines, t.row(cols, widths, gutter, rows[i], mark))
	}
	return lines
}

func (t theme) row(cols []column, widths []int, gutter int, cells []cell, mark string) string {
	var b strings.Builder
	b.WriteString(mark)
	first := true
	for c, x := range cells {
		if widths[c] == 0 {
			continue
		}
		if !first {
			b.WriteString(strings.Repeat(" ", gutter))
		}
		first = false
		text := t.fit(x.text, widths[c])
		if cols[c].middle {
			text = t.fitMiddle(x.text, widths[c])
		}
		pad := strings.Repeat(" ", max(0, widths[c]-lipgloss.Width(text)))
		if cols[c].right {
			b.WriteString(pad + t.paint(x.level, text))
		} else {
			b.WriteString(t.paint(x.level, text) + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}
