// Command svg draws what "tmux capture-pane -e -p" printed as an SVG: text as
// text, in the colours of a dark terminal. Every argument is one capture; they
// are stacked, with a line between them. It knows the escape sequences that
// tmux writes (SGR) and nothing else.
//
//	go run ./.ci/svg first.ansi second.ansi > picture.svg
package main

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A cell of the terminal and the frame around all of them, in pixels.
const (
	cellWidth, cellHeight = 8.0, 17.0
	margin, gap           = 16.0, 14.0
	foreground            = "#d4d7dd"
	background            = "#16181d"
)

// palette are the sixteen colours that have names.
var palette = [16]string{
	"#16181d", "#e06c6c", "#7fc97f", "#e5c07b", "#6ea8e0", "#c08be0", "#5fc4c4", "#d4d7dd",
	"#7a808c", "#f08a8a", "#a0e0a0", "#f5d79b", "#8fc0f0", "#d6aaf0", "#85dcdc", "#ffffff",
}

// style is what SGR sets.
type style struct {
	fg, bg             string
	bold, dim, reverse bool
}

// span is text of one style that begins at a column.
type span struct {
	column int
	text   string
	style  style
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "svg:", err)
		os.Exit(1)
	}
}

func run(files []string, w io.Writer) error {
	if len(files) == 0 {
		return fmt.Errorf("usage: svg FILE…")
	}
	var panels [][][]span
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		panels = append(panels, parse(string(b)))
	}
	out := bufio.NewWriter(w)
	draw(out, panels)
	return out.Flush()
}

var sgr = regexp.MustCompile("\x1b\\[([0-9;:]*)m")

// parse splits a capture into lines of spans; the style goes on from line to
// line, as tmux writes it.
func parse(text string) [][]span {
	var (
		lines [][]span
		now   style
	)
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		line = strings.TrimRight(line, "\n")
		var spans []span
		column := 0
		put := func(s string) {
			if s != "" {
				spans = append(spans, span{column, s, now})
				column += utf8.RuneCountInString(s)
			}
		}
		at := 0
		for _, m := range sgr.FindAllStringSubmatchIndex(line, -1) {
			put(line[at:m[0]])
			now = now.apply(line[m[2]:m[3]])
			at = m[1]
		}
		put(line[at:])
		lines = append(lines, spans)
	}
	return lines
}

// apply is the style after one SGR sequence.
func (s style) apply(codes string) style {
	var n []int
	for f := range strings.FieldsFuncSeq(codes, func(r rune) bool { return r == ';' || r == ':' }) {
		v, _ := strconv.Atoi(f) // digits: the expression saw to it
		n = append(n, v)
	}
	if len(n) == 0 {
		return style{}
	}
	for i := 0; i < len(n); i++ {
		switch c := n[i]; {
		case c == 0:
			s = style{}
		case c == 1:
			s.bold = true
		case c == 2:
			s.dim = true
		case c == 22:
			s.bold, s.dim = false, false
		case c == 7:
			s.reverse = true
		case c == 27:
			s.reverse = false
		case c >= 30 && c <= 37:
			s.fg = palette[c-30]
		case c >= 90 && c <= 97:
			s.fg = palette[c-90+8]
		case c == 39:
			s.fg = ""
		case c >= 40 && c <= 47:
			s.bg = palette[c-40]
		case c >= 100 && c <= 107:
			s.bg = palette[c-100+8]
		case c == 49:
			s.bg = ""
		case c == 38 || c == 48:
			colour, used := extended(n[i+1:])
			if c == 38 {
				s.fg = colour
			} else {
				s.bg = colour
			}
			i += used
		}
	}
	return s
}

// extended reads what follows 38 or 48: 5;N or 2;R;G;B.
func extended(n []int) (colour string, used int) {
	switch {
	case len(n) >= 2 && n[0] == 5:
		return indexed(n[1]), 2
	case len(n) >= 4 && n[0] == 2:
		return fmt.Sprintf("#%02x%02x%02x", n[1]&255, n[2]&255, n[3]&255), 4
	}
	return "", len(n)
}

// indexed is a colour of the table of 256: names, a 6×6×6 cube, greys.
func indexed(n int) string {
	switch {
	case n < 16:
		return palette[max(n, 0)]
	case n < 232:
		level := func(v int) int {
			if v == 0 {
				return 0
			}
			return 55 + 40*v
		}
		n -= 16
		return fmt.Sprintf("#%02x%02x%02x", level(n/36), level(n/6%6), level(n%6))
	}
	grey := 8 + 10*(min(n, 255)-232)
	return fmt.Sprintf("#%02x%02x%02x", grey, grey, grey)
}

// colours are what a style is drawn with; bg is empty for none.
func (s style) colours() (fg, bg string) {
	fg, bg = s.fg, s.bg
	if fg == "" {
		fg = foreground
	}
	if s.reverse {
		if bg == "" {
			bg = background
		}
		fg, bg = bg, fg
	}
	return fg, bg
}

func draw(w io.Writer, panels [][][]span) {
	rows, columns := 0, 0
	for _, p := range panels {
		rows += len(p)
		for _, line := range p {
			for _, s := range line {
				columns = max(columns, s.column+utf8.RuneCountInString(strings.TrimRight(s.text, " ")))
			}
		}
	}
	width := 2*margin + float64(columns)*cellWidth
	height := 2*margin + float64(rows)*cellHeight + float64(len(panels)-1)*2*gap
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="13" fill="%s">`+"\n", width, height, width, height, foreground)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" rx="8" fill="%s"/>`+"\n", background)
	y := margin
	for n, p := range panels {
		if n > 0 {
			fmt.Fprintf(w, `<path d="M0 %.1fH%.0f" stroke="#3a3f4b"/>`+"\n", y+gap, width)
			y += 2 * gap
		}
		for _, line := range p {
			for _, s := range line {
				s.draw(w, y)
			}
			y += cellHeight
		}
	}
	io.WriteString(w, "</svg>\n")
}

// words are parted by two spaces or more.
var words = regexp.MustCompile(`[^ ]+( [^ ]+)*`)

// draw writes one span; textLength keeps the columns where they are, whatever
// font the reader has.
func (s span) draw(w io.Writer, y float64) {
	fg, bg := s.style.colours()
	x := margin + float64(s.column)*cellWidth
	if bg != "" {
		fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, float64(utf8.RuneCountInString(s.text))*cellWidth, cellHeight, bg)
	}
	attributes := ""
	if fg != foreground {
		attributes += fmt.Sprintf(` fill="%s"`, fg)
	}
	if s.style.bold {
		attributes += ` font-weight="bold"`
	}
	if s.style.dim {
		attributes += ` opacity="0.6"`
	}
	// Readers may fold spaces: what two or more of them part is placed on its own.
	for _, m := range words.FindAllStringIndex(s.text, -1) {
		text := s.text[m[0]:m[1]]
		fmt.Fprintf(w, `<text x="%.0f" y="%.0f" textLength="%.0f"%s>`, x+float64(utf8.RuneCountInString(s.text[:m[0]]))*cellWidth, y+0.76*cellHeight, float64(utf8.RuneCountInString(text))*cellWidth, attributes)
		_ = xml.EscapeText(w, []byte(text)) // draw's writer keeps its first error
		io.WriteString(w, "</text>\n")
	}
}
