package tui

import (
	"fmt"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab/control"
)

// plays lists the playback sessions as the pipeline saw them last.
type plays struct {
	list list
	open detail
	k    listKeys
}

func (plays) title() string  { return "plays" }
func (p plays) typing() bool { return p.list.typing }

func (p plays) keys() []key.Binding {
	return append(p.k.moves(), p.k.filter, p.k.open, p.k.back)
}

// command is the nearest there is: events tell of plays too.
func (plays) command(frame) string { return "events -f" }

func (p plays) shown(d data) (out []control.Session, names []string) {
	for _, s := range d.plays.value {
		if p.list.passes(s.Title, s.Region, s.ISP, s.Appliance, s.Rung, s.State, s.Session, s.Member) {
			out = append(out, s)
			names = append(names, s.Session)
		}
	}
	return out, names
}

func (p plays) update(m tea.KeyMsg, f frame) (screen, *jump) {
	if p.open.of != "" {
		p.open = p.open.update(m, p.k, len(p.detail(f)), f.height)
		return p, nil
	}
	_, names := p.shown(f.data)
	if !p.list.typing && key.Matches(m, p.k.open) {
		p.open = detail{of: p.list.name(names)}
		return p, nil
	}
	p.list = p.list.update(m, p.k, names, f.height-2)
	return p, nil
}

func (p plays) view(f frame) []string {
	if p.open.of != "" {
		return p.open.view(p.detail(f), f.height)
	}
	if f.data.plays.at.IsZero() {
		return []string{f.theme.paint(dim, "no answer yet")}
	}
	if len(f.data.plays.value) == 0 {
		return []string{f.theme.paint(dim, `nobody has played yet; try: flix play --title "Harbor Lights"`)}
	}
	shown, names := p.shown(f.data)
	from, to, cursor := p.list.window(names, f.height-2)
	cols := []column{
		{title: "title", least: 10, fair: 16, middle: true}, {title: "state"}, {title: "region", least: 7}, {title: "isp", least: 8},
		{title: "appliance", least: 9, fair: 20, middle: true}, {title: "rung", least: 4}, {title: "at", right: true}, {title: "rebuf", right: true},
		{title: "bytes", right: true, drop: 1}, {title: "updated", right: true, drop: 2},
	}
	rows := make([][]cell, 0, len(shown))
	for _, s := range shown {
		rows = append(rows, []cell{
			{s.Title, plain}, playState(s.State), {s.Region, plain}, {s.ISP, plain}, {short(s.Appliance), plain}, {s.Rung, plain},
			{position(s.PositionS), plain}, rebuffer(s.RebufferS), {render.Bytes(s.Bytes), plain}, {render.Ago(s.Updated, f.data.now), plain},
		})
	}
	lines := []string{p.list.caption(f.theme, len(shown), len(f.data.plays.value), "recent plays")}
	return append(lines, f.theme.table(cols, rows, f.width, from, to, cursor)...)
}

// playState leaves a play that ended by itself without colour: that is no
// matter for concern.
func playState(state string) cell {
	if state == "stopped" {
		return stateAt(plain, state)
	}
	return stateCell(state)
}

func rebuffer(s float64) cell {
	c := cell{text: fmt.Sprintf("%.1f s", s)}
	if s > 0 {
		c.level = warn
	}
	return c
}

// position is a place in a title as minutes and seconds.
func position(s float64) string {
	d := time.Duration(s * float64(time.Second)).Truncate(time.Second)
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func (p plays) detail(f frame) []string {
	lines := []string{f.theme.paint(strong, "play "+clean(p.open.of)), ""}
	for _, s := range f.data.plays.value {
		if s.Session != p.open.of {
			continue
		}
		return append(lines, facts(f, []fact{
			{"title", s.Title, plain}, {"state", playState(s.State).text, playState(s.State).level}, {"member", s.Member, plain},
			{"region", s.Region, plain}, {"isp", s.ISP, plain}, {"appliance", s.Appliance, plain}, {"rung", s.Rung, plain},
			{"position", position(s.PositionS), plain}, {"rebuffer", rebuffer(s.RebufferS).text, rebuffer(s.RebufferS).level},
			{"bytes", render.Bytes(s.Bytes), plain}, {"updated", render.Ago(s.Updated, f.data.now) + ago(s.Updated, f.data.now), plain},
		})...)
	}
	return append(lines, "it is no longer among the recent plays; esc goes back")
}
