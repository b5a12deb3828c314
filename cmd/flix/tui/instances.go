package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab/control"
)

// recentEvents is how many events an instance's detail tells.
const recentEvents = 8

// instances lists every instance of the lab and opens one.
type instances struct {
	list list
	open detail
	k    listKeys
}

func (instances) title() string  { return "instances" }
func (i instances) typing() bool { return i.list.typing }

func (i instances) keys() []key.Binding {
	return append(i.k.moves(), i.k.filter, i.k.open, i.k.back)
}

func (i instances) command(frame) string {
	if i.open.of != "" {
		return "lab logs -f " + i.open.of
	}
	return "lab status -o wide"
}

// shown is what passes the filter, and how many there are in all.
func (i instances) shown(d data) (out []control.InstanceStatus, names []string, all int) {
	for _, r := range d.status.value.Regions {
		all += len(r.Instances)
		for _, x := range r.Instances {
			if i.list.passes(x.Name, x.Role, x.State, x.Error) {
				out = append(out, x)
				names = append(names, x.Name)
			}
		}
	}
	return out, names, all
}

func (i instances) update(m tea.KeyMsg, f frame) (screen, *jump) {
	if i.open.of != "" {
		i.open = i.open.update(m, i.k, len(i.detail(f)), f.height)
		return i, nil
	}
	_, names, _ := i.shown(f.data)
	if !i.list.typing && key.Matches(m, i.k.open) {
		i.open = detail{of: i.list.name(names)}
		return i, nil
	}
	i.list = i.list.update(m, i.k, names, f.height-2)
	return i, nil
}

func (i instances) view(f frame) []string {
	if i.open.of != "" {
		return i.open.view(i.detail(f), f.height)
	}
	if f.data.status.at.IsZero() {
		return []string{f.theme.paint(dim, "no answer yet")}
	}
	shown, names, all := i.shown(f.data)
	from, to, cursor := i.list.window(names, f.height-2)
	cols := []column{
		{title: "instance", least: 24}, {title: "role", drop: 2}, {title: "zone", drop: 3}, {title: "state"},
		{title: "pid", right: true, drop: 1}, {title: "age", right: true}, {title: "restarts", right: true, drop: 1},
		{title: "error", least: 5, fair: 24, grow: true},
	}
	rows := make([][]cell, 0, len(shown))
	for _, x := range shown {
		restarts := cell{text: strconv.Itoa(x.Restarts)}
		if x.Restarts > 0 {
			restarts.level = warn
		}
		rows = append(rows, []cell{
			{x.Name, plain}, {x.Role, plain}, {x.Zone, plain}, stateCell(x.State),
			{place(x), plain}, {render.Ago(x.Started, f.data.now), plain}, restarts, {x.Error, bad},
		})
	}
	lines := []string{i.list.caption(f.theme, len(shown), all, "instances")}
	return append(lines, f.theme.table(cols, rows, f.width, from, to, cursor)...)
}

// place is the process or container of an instance.
func place(x control.InstanceStatus) string {
	switch {
	case x.PID != 0:
		return strconv.Itoa(x.PID)
	case x.Container != "":
		return x.Container
	}
	return "-"
}

// detail is everything known of the open instance.
func (i instances) detail(f frame) []string {
	x, region, ok := find(f.data.status.value, i.open.of)
	lines := []string{f.theme.paint(strong, clean(i.open.of)), ""}
	if !ok {
		return append(lines, "it is no longer part of the lab; esc goes back")
	}
	started := "-"
	if !x.Started.IsZero() {
		started = fmt.Sprintf("%s, %s%s", x.Started.In(f.zone).Format(time.DateTime), render.Ago(x.Started, f.data.now), ago(x.Started, f.data.now))
	}
	all := []fact{
		{"state", stateCell(x.State).text, levelOf(x.State)}, {"role", x.Role, plain}, {"region", region, plain}, {"zone", x.Zone, plain},
		{"started", started, plain}, {"process", place(x), plain}, {"restarts", strconv.Itoa(x.Restarts), plain},
	}
	if x.Error != "" {
		all = append(all, fact{"error", x.Error, bad})
	}
	lines = append(lines, facts(f, all)...)
	lines = append(lines, "", f.theme.paint(strong, "endpoints"))
	lines = append(lines, facts(f, endpoints(x))...)
	lines = append(lines, "", f.theme.paint(strong, "events"))
	return append(lines, about(f, x.Name)...)
}

func find(st control.Status, name string) (control.InstanceStatus, string, bool) {
	for _, r := range st.Regions {
		for _, x := range r.Instances {
			if x.Name == name {
				return x, r.Name, true
			}
		}
	}
	return control.InstanceStatus{}, "", false
}

func endpoints(x control.InstanceStatus) []fact {
	var out []fact
	for n, a := range x.Endpoints {
		out = append(out, fact{name: clean(n), value: a})
	}
	if len(out) == 0 {
		return []fact{{name: "none"}}
	}
	slices.SortFunc(out, func(a, b fact) int { return strings.Compare(a.name, b.name) })
	return out
}

// about is the newest events of a subject, the newest first.
func about(f frame, subject string) []string {
	var out []fact
	for n := len(f.data.events) - 1; n >= 0 && len(out) < recentEvents; n-- {
		if e := f.data.events[n]; e.Subject == subject {
			out = append(out, fact{e.At.In(f.zone).Format(time.TimeOnly), e.Kind + "  " + e.Text, eventLevel(e)})
		}
	}
	if len(out) == 0 {
		return []string{f.theme.paint(dim, "  none that this dashboard has seen")}
	}
	return facts(f, out)
}
