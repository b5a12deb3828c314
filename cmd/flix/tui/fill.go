package tui

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/cmd/flix/render"
	"github.com/flix-lab/flix/lab/control"
)

// fill shows what the appliances hold and where it came from.
type fill struct {
	list list
	k    listKeys
}

func (fill) title() string            { return "fill" }
func (fill) command(frame) string     { return "fill status -w" }
func (s fill) typing() bool           { return s.list.typing }
func (s fill) keys() []key.Binding    { return append(s.k.moves(), s.k.filter, s.k.back) }
func (fill) rows(f frame) (lines int) { return f.height - 6 }

func (s fill) shown(d data) (out []control.ApplianceFill, names []string) {
	for _, a := range d.fill.value.Appliances {
		if s.list.passes(a.Name, a.Region, a.Site, a.Kind, reach(a)) {
			out = append(out, a)
			names = append(names, a.Name)
		}
	}
	return out, names
}

// reach is the state of an appliance in a word.
func reach(a control.ApplianceFill) string {
	if a.Healthy {
		return "up"
	}
	return "down"
}

func (s fill) update(m tea.KeyMsg, f frame) (screen, *jump) {
	_, names := s.shown(f.data)
	s.list = s.list.update(m, s.k, names, s.rows(f))
	return s, nil
}

func (s fill) view(f frame) []string {
	st := f.data.fill.value
	if f.data.fill.at.IsZero() {
		return []string{f.theme.paint(dim, "no answer yet")}
	}
	lines := []string{egress(f, st), sources(f, st), ""}
	shown, names := s.shown(f.data)
	lines = append(lines, s.list.caption(f.theme, len(shown), len(st.Appliances), "appliances"))
	from, to, cursor := s.list.window(names, s.rows(f))
	bar := max(5, min(20, (f.width-76)/2))
	cols := []column{
		{title: "appliance", least: 14, fair: 20, middle: true}, {title: "kind"}, {title: "state"}, {title: "filled"}, {title: "files", right: true, drop: 2},
		{title: "held", right: true, drop: 1}, {title: "cache", right: true}, {title: "tier", right: true}, {title: "peer", right: true},
	}
	rows := make([][]cell, 0, len(shown))
	for _, a := range shown {
		rows = append(rows, []cell{
			{short(a.Name), plain}, {a.Kind, plain}, stateCell(reach(a)),
			{fmt.Sprintf("%s %3.0f %%", render.Bar(a.Percent, bar), a.Percent), plain},
			{fmt.Sprintf("%d/%d", a.Held, a.Assigned), plain}, {render.Bytes(a.HeldBytes), plain},
			{render.Bytes(a.CacheFillBytes), plain}, {render.Bytes(a.TierFillBytes), plain}, {render.Bytes(a.PeerFillBytes), plain},
		})
	}
	return append(lines, f.theme.table(cols, rows, f.width, from, to, cursor)...)
}

// egress is the figure that matters: how often a byte left the origin.
func egress(f frame, st control.FillStatus) string {
	return fmt.Sprintf("origin egress ratio %s  %s", f.theme.paint(strong, fmt.Sprintf("%.3f", st.OriginEgressRatio)),
		f.theme.paint(dim, fmt.Sprintf("%s egress for %s unique, 1 is the least", render.Bytes(st.OriginEgressBytes), render.Bytes(st.UniqueBytes))))
}

// sources is how the filled bytes divide by where they came from.
func sources(f frame, st control.FillStatus) string {
	var cache, tier, peer uint64
	for _, a := range st.Appliances {
		cache, tier, peer = cache+a.CacheFillBytes, tier+a.TierFillBytes, peer+a.PeerFillBytes
	}
	sum := float64(cache + tier + peer)
	var parts []string
	for _, x := range []struct {
		name  string
		bytes uint64
	}{{"cache", cache}, {"tier", tier}, {"peer", peer}} {
		percent := 0.0
		if sum > 0 {
			percent = 100 * float64(x.bytes) / sum
		}
		bar := ""
		if f.width >= 100 {
			bar = render.Bar(percent, 10) + " "
		}
		parts = append(parts, fmt.Sprintf("%s %s%s %.0f %%", x.name, bar, render.Bytes(x.bytes), percent))
	}
	return "by source  " + strings.Join(parts, "   ")
}

// short leaves out the region of an appliance's name where that of its site
// starts with it anyway.
func short(appliance string) string {
	region, rest, ok := strings.Cut(appliance, "/")
	if ok && strings.HasPrefix(rest, region) {
		return rest
	}
	return appliance
}
