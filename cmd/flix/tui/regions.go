package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab/control"
)

// regions is the first screen: each region's state, load and traffic, and the
// evacuations.
type regions struct {
	list list
	k    listKeys
}

func (regions) title() string        { return "regions" }
func (regions) command(frame) string { return "lab status -w" }
func (r regions) typing() bool       { return r.list.typing }
func (r regions) keys() []key.Binding {
	return append(r.k.moves(), bind("enter", "its instances", "enter"))
}

func (regions) names(d data) []string {
	var out []string
	for _, r := range d.status.value.Regions {
		out = append(out, r.Name)
	}
	return out
}

// rows is how many regions are listed at once; the rest is for what is below.
func (regions) rows(f frame) int { return min(6, f.height-9) }

func (r regions) update(m tea.KeyMsg, f frame) (screen, *jump) {
	names := r.names(f.data)
	switch {
	case key.Matches(m, r.k.open):
		if n := r.list.name(names); n != "" {
			return r, &jump{to: instancesAt, screen: instances{k: r.k, list: list{filter: n + "/"}}}
		}
	case key.Matches(m, r.k.filter), key.Matches(m, r.k.back):
		// A lab has a handful of regions: there is nothing to filter.
	default:
		r.list = r.list.update(m, r.k, names, r.rows(f))
	}
	return r, nil
}

func (r regions) view(f frame) []string {
	d := f.data
	if d.status.at.IsZero() {
		return []string{f.theme.paint(dim, "no answer yet")}
	}
	names := r.names(d)
	from, to, cursor := r.list.window(names, r.rows(f))
	lines := r.table(f, from, to, cursor)
	if len(names) > 0 {
		lines = append(lines, "")
		lines = append(lines, missing(f, d.status.value.Regions[cursor], 4)...)
	}
	lines = append(lines, "")
	return append(lines, evacuations(f, max(1, f.height-len(lines)))...)
}

func (r regions) table(f frame, from, to, cursor int) []string {
	const most = 60 // samples
	d := f.data
	span := max(10, min(most, f.width-62))
	top := peak(d.rates, span)
	cols := []column{
		{title: "region", least: 9}, {title: "state"}, {title: "share", right: true}, {title: "running", right: true},
		{title: "plays", right: true}, {title: "bytes/s", right: true}, {title: "trend", grow: true},
	}
	var rows [][]cell
	for _, x := range d.status.value.Regions {
		up := 0
		for _, i := range x.Instances {
			if i.State == "running" {
				up++
			}
		}
		running := cell{text: fmt.Sprintf("%d/%d", up, len(x.Instances))}
		if up < len(x.Instances) {
			running.level = levelOf(x.State)
		}
		rate := "-"
		samples := d.rates[x.Name]
		if n := len(samples); n > 0 {
			rate = render.Bytes(uint64(samples[n-1]))
		}
		rows = append(rows, []cell{
			{x.Name, plain}, stateCell(x.State), {fmt.Sprintf("%.0f %%", x.Share*100), plain}, running,
			{fmt.Sprint(d.playing(x.Name)), plain}, {rate, plain}, {sparkline(samples, span, top), plain},
		})
	}
	return f.theme.table(cols, rows, f.width, from, to, cursor)
}

// missing names what does not run in a region, in at most a number of lines.
func missing(f frame, r control.RegionStatus, most int) []string {
	var down []control.InstanceStatus
	for _, i := range r.Instances {
		if i.State != "running" {
			down = append(down, i)
		}
	}
	head := f.theme.paint(strong, clean(r.Name))
	if len(down) == 0 {
		return []string{head + f.theme.paint(dim, fmt.Sprintf("  all %d instances run", len(r.Instances)))}
	}
	lines := []string{head + fmt.Sprintf("  %d of %d instances do not run", len(down), len(r.Instances))}
	for n, i := range down {
		if n == most-1 && len(down) > most {
			lines = append(lines, f.theme.paint(dim, fmt.Sprintf("  and %d more; enter lists them", len(down)-n)))
			break
		}
		state := stateCell(i.State)
		pad := strings.Repeat(" ", max(1, 11-lipgloss.Width(state.text)))
		name := f.theme.fit(i.Name, 40)
		text := "  " + f.theme.cell(state) + pad + name
		if i.Error != "" {
			text += "  " + f.theme.paint(dim, f.theme.fit(i.Error, f.width-15-lipgloss.Width(name)))
		}
		lines = append(lines, text)
	}
	return lines
}

// evacuations tells the newest first, in a number of lines at most.
func evacuations(f frame, most int) []string {
	lines := []string{f.theme.paint(strong, "evacuations")}
	moves := f.data.moves.value
	if len(moves) == 0 {
		return append(lines, f.theme.paint(dim, "  none yet; flix failover REGION makes one"))
	}
	for i := len(moves) - 1; i >= 0 && len(lines) < most; i-- {
		lines = append(lines, evacuation(f, moves[i]))
		if more := steps(f.data, moves[i]); more != "" && len(lines) < most {
			lines = append(lines, f.theme.paint(dim, f.theme.fit("    "+more, f.width)))
		}
	}
	return lines
}

// evacuation is one in a line.
func evacuation(f frame, m control.Failover) string {
	state := stateCell(m.State)
	if m.State == "running" {
		state = stateAt(warn, m.State) // on its way, not yet good
	}
	text := fmt.Sprintf("  %s of %s  %s", clean(m.Verb), clean(m.Region), f.theme.cell(state))
	switch {
	case m.State == "running" && !m.Started.IsZero():
		text += "  for " + render.Ago(m.Started, f.data.now)
	case m.RTOMS > 0:
		text += "  RTO " + render.MS(m.RTOMS)
	}
	if m.PlaysDuring == 0 {
		return text
	}
	plays := fmt.Sprintf("%d of %d plays failed", m.PlaysFailed, m.PlaysDuring)
	if m.PlaysFailed > 0 {
		plays = f.theme.paint(bad, plays)
	}
	return text + "  " + plays
}

// steps is how far an evacuation got: why it failed, how long its steps took,
// or, while the report has none yet, what its last event says.
func steps(d data, m control.Failover) string {
	if m.Error != "" {
		return m.Error
	}
	var out []string
	for _, s := range m.Steps {
		out = append(out, s.Name+" "+render.MS(s.MS))
	}
	if len(out) > 0 || m.State != "running" {
		return strings.Join(out, " · ")
	}
	for _, e := range slices.Backward(d.events) {
		if e.Subject == m.Region && e.Kind == m.Verb+".step" {
			return e.Text
		}
	}
	return ""
}
