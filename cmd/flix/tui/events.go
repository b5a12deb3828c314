package tui

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/lab/control"
)

// events shows the lab's event log as it grows.
type events struct {
	list list
	open detail
	k    listKeys
}

func (events) title() string        { return "events" }
func (events) command(frame) string { return "events -f" }
func (e events) typing() bool       { return e.list.typing }

func (e events) keys() []key.Binding {
	return append(e.k.moves(), e.k.filter, e.k.follow, e.k.open, e.k.back)
}

func (e events) shown(d data) (out []control.Event, names []string) {
	for _, x := range d.events {
		if e.list.passes(x.Kind, x.Subject, x.Text) {
			out = append(out, x)
			names = append(names, strconv.FormatUint(x.Seq, 10))
		}
	}
	return out, names
}

func (e events) update(m tea.KeyMsg, f frame) (screen, *jump) {
	if e.open.of != "" {
		e.open = e.open.update(m, e.k, len(e.detail(f)), f.height)
		return e, nil
	}
	_, names := e.shown(f.data)
	lines := f.height - 2
	if e.list.typing {
		e.list = e.list.update(m, e.k, names, lines)
		return e, nil
	}
	switch {
	case key.Matches(m, e.k.open):
		e.open = detail{of: e.list.name(names)}
		return e, nil
	case key.Matches(m, e.k.follow):
		follow := !e.list.tail
		e.list = e.list.move(names, lines, e.list.cursor(names))
		e.list.tail = follow
		return e, nil
	}
	e.list = e.list.update(m, e.k, names, lines)
	if key.Matches(m, e.k.bottom) {
		e.list.tail = true // the end of a log is where it goes on
	}
	return e, nil
}

func (e events) view(f frame) []string {
	if e.open.of != "" {
		return e.open.view(e.detail(f), f.height)
	}
	if len(f.data.events) == 0 {
		return []string{f.theme.paint(dim, "no event yet")}
	}
	shown, names := e.shown(f.data)
	from, to, cursor := e.list.window(names, f.height-2)
	cols := []column{{title: "time"}, {title: "kind", least: 12}, {title: "text", least: 20, grow: true}}
	rows := make([][]cell, 0, len(shown))
	for _, x := range shown {
		l := eventLevel(x)
		rows = append(rows, []cell{
			{x.At.In(f.zone).Format(time.TimeOnly), dim}, {glyph(l) + " " + x.Kind, l}, {x.Text, plain},
		})
	}
	follows := f.theme.paint(warn, "◐ held")
	if e.list.tail {
		follows = f.theme.paint(good, "● following")
	}
	lines := []string{sides(e.list.caption(f.theme, len(shown), len(f.data.events), "events"), follows, f.width)}
	return append(lines, f.theme.table(cols, rows, f.width, from, to, cursor)...)
}

// eventLevel says what an event means, by the last word of its kind.
func eventLevel(e control.Event) level {
	switch e.Kind[strings.LastIndexByte(e.Kind, '.')+1:] {
	case "failed", "lost", "kill", "killed", "rolled_back":
		return bad
	case "restarted", "stop", "stopped", "down":
		return warn
	case "up", "start", "started", "done", "ready":
		return good
	}
	return plain
}

// detail is the open event with what a program would read of it.
func (e events) detail(f frame) []string {
	for _, x := range f.data.events {
		if strconv.FormatUint(x.Seq, 10) != e.open.of {
			continue
		}
		all := []fact{
			{"kind", glyph(eventLevel(x)) + " " + x.Kind, eventLevel(x)}, {"at", x.At.In(f.zone).Format("2006-01-02 15:04:05.000"), plain},
			{"subject", x.Subject, plain}, {"text", x.Text, plain},
		}
		for _, k := range sortedKeys(x.Data) {
			all = append(all, fact{clean(k), dataText(x.Data[k]), plain})
		}
		return append([]string{f.theme.paint(strong, "event "+e.open.of), ""}, facts(f, all)...)
	}
	return []string{fmt.Sprintf("event %s is no longer kept here; esc goes back", clean(e.open.of))}
}

func dataText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func sortedKeys(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
