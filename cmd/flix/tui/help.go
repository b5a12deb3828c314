package tui

import (
	"fmt"

	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/lipgloss"
)

// helpView lists the keys of the screen beside those that work everywhere.
func helpView(f frame, g globalKeys, s screen) []string {
	half := f.width/2 - 1
	left := append([]string{f.theme.paint(strong, "Everywhere")}, keyLines(f.theme, g.list(), half)...)
	right := append([]string{f.theme.paint(strong, "On "+s.title())}, keyLines(f.theme, s.keys(), half)...)
	var lines []string
	for i := range max(len(left), len(right)) {
		l, r := at(left, i), at(right, i)
		lines = append(lines, fmt.Sprintf("%s%*s%s", l, max(1, half+2-lipgloss.Width(l)), "", r))
	}
	return append(lines, "",
		f.theme.paint(strong, "States")+"  "+f.theme.paint(good, "● it works")+"   "+f.theme.paint(warn, "◐ on its way, or held back on purpose")+"   "+f.theme.paint(bad, "○ broken"),
		f.theme.paint(dim, "Nothing here changes the lab. y shows the command for a script."))
}

func keyLines(t theme, keys []key.Binding, width int) []string {
	var out []string
	for _, k := range keys {
		out = append(out, t.fit(fmt.Sprintf("  %-12s %s", k.Help().Key, k.Help().Desc), width))
	}
	return out
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
