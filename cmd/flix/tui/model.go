package tui

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"github.com/flix-lab/flix/cmd/flix/render"
)

// The least terminal that holds every screen.
const (
	leastWidth  = 80
	leastHeight = 24
)

// chrome is the lines around a screen: title, tabs, rule, state, keys.
const chrome = 5

// frame is what a screen may use: its room, the data, how to draw.
type frame struct {
	width, height int
	theme         theme
	data          data
	zone          *time.Location
}

// screen is one page. Implementations are values: update returns the changed
// one. The view fits the frame.
type screen interface {
	title() string
	keys() []key.Binding
	// command is the command line, without "flix", that shows the same.
	command(f frame) string
	update(m tea.KeyMsg, f frame) (screen, *jump)
	view(f frame) []string
	// typing says that the screen wants every key.
	typing() bool
}

// The screens, in the order of their numbers.
const (
	regionsAt = iota
	instancesAt
	playsAt
	fillAt
	eventsAt
	commandsAt
	screenCount
)

// jump asks for another screen, in a state.
type jump struct {
	to     int
	screen screen
}

// model is the whole dashboard.
type model struct {
	theme         theme
	keys          globalKeys
	flags         string
	zone          *time.Location
	width, height int
	data          data
	screens       [screenCount]screen
	at            int
	help          bool
	hint          string // shown until the next key
}

func newModel(o Options) model {
	k := newListKeys()
	zone := o.Zone
	if zone == nil {
		zone = time.UTC
	}
	return model{
		theme: newTheme(o.Out, o.Color), keys: newGlobalKeys(), flags: o.Flags, zone: zone,
		screens: [screenCount]screen{
			regionsAt:   regions{k: k},
			instancesAt: instances{k: k},
			playsAt:     plays{k: k},
			fillAt:      fill{k: k},
			eventsAt:    events{k: k, list: list{tail: true}},
			commandsAt:  commands{k: k},
		},
	}
}

// Init implements tea.Model; the feed starts by itself.
func (m model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyMsg:
		return m.typed(msg)
	default:
		m.data = m.data.take(msg)
	}
	return m, nil
}

// typed takes apart what came in one read: keys typed fast are one message.
func (m model) typed(msg tea.KeyMsg) (tea.Model, tea.Cmd) {
	if msg.Type != tea.KeyRunes || msg.Paste {
		return m.key(msg)
	}
	for _, r := range msg.Runes {
		var cmd tea.Cmd
		if m, cmd = m.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}, Alt: msg.Alt}); cmd != nil {
			return m, cmd
		}
	}
	return m, nil
}

func (m model) key(msg tea.KeyMsg) (model, tea.Cmd) {
	k, hinted := m.keys, m.hint != ""
	m.hint = ""
	if key.Matches(msg, k.halt) {
		return m, tea.Quit
	}
	if m.small() {
		if key.Matches(msg, k.quit) {
			return m, tea.Quit
		}
		return m, nil // nothing is seen that another key could act on
	}
	if m.screens[m.at].typing() && !m.help {
		return m.toScreen(msg), nil
	}
	switch {
	case key.Matches(msg, k.quit):
		return m, tea.Quit
	case key.Matches(msg, k.help):
		m.help = !m.help
		return m, nil
	case m.help && msg.Type == tea.KeyEsc:
		m.help = false
		return m, nil
	case key.Matches(msg, k.jump):
		return m.show(int(msg.Runes[0] - '1')), nil
	case key.Matches(msg, k.next):
		return m.show((m.at + 1) % screenCount), nil
	case key.Matches(msg, k.prev):
		return m.show((m.at + screenCount - 1) % screenCount), nil
	case key.Matches(msg, k.command):
		if !hinted {
			m.hint = strings.TrimSpace("flix " + m.screens[m.at].command(m.frame()) + " " + m.flags)
		}
		return m, nil
	}
	if m.help {
		return m, nil
	}
	return m.toScreen(msg), nil
}

func (m model) toScreen(msg tea.KeyMsg) model {
	var j *jump
	if m.screens[m.at], j = m.screens[m.at].update(msg, m.frame()); j != nil {
		m.at, m.screens[j.to] = j.to, j.screen
	}
	return m
}

func (m model) show(at int) model {
	m.at, m.help = at, false
	return m
}

func (m model) small() bool { return m.width < leastWidth || m.height < leastHeight }

func (m model) frame() frame {
	return frame{width: m.width, height: m.height - chrome, theme: m.theme, data: m.data, zone: m.zone}
}

// View implements tea.Model.
func (m model) View() string {
	if m.width <= 0 || m.height <= 0 {
		return "" // the terminal has not said its size yet
	}
	if m.small() {
		return m.tooSmall()
	}
	f := m.frame()
	var body []string
	if m.help {
		body = helpView(f, m.keys, m.screens[m.at])
	} else {
		body = m.screens[m.at].view(f)
	}
	lines := make([]string, 0, m.height)
	lines = append(lines, m.header(), m.tabs(), m.theme.paint(dim, strings.Repeat("─", m.width)))
	for i := range f.height {
		if i < len(body) {
			lines = append(lines, body[i])
		} else {
			lines = append(lines, "")
		}
	}
	lines = append(lines, m.state(), m.footer())
	for i, l := range lines {
		lines[i] = m.theme.clip(l, m.width)
	}
	return strings.Join(lines, "\n")
}

func (m model) tooSmall() string {
	text := fmt.Sprintf("flix top needs a terminal of %d×%d or more; this one is %d×%d. q quits.", leastWidth, leastHeight, m.width, m.height)
	lines := m.theme.wrap(text, m.width)
	return strings.Join(lines[:min(len(lines), m.height)], "\n")
}

// header says which lab this is and how it is.
func (m model) header() string {
	t, st := m.theme, m.data.status
	left := t.paint(strong, "flix top")
	if !st.at.IsZero() {
		daemon := clean(st.value.Daemon.State)
		if m.data.daemonDead() {
			daemon = "dead"
		}
		parts := []string{t.paint(strong, t.fit(st.value.Name, 20)), "daemon " + t.cell(stateCell(daemon)),
			fmt.Sprintf("%d instances", st.value.Instances), render.Bytes(st.value.RSSBytes)}
		if m.width >= 100 {
			parts = append(parts, t.fit(st.value.Runtime, 12)+" runtime")
		}
		left += "  " + strings.Join(parts, " · ")
	}
	if m.data.now.IsZero() {
		return left
	}
	return sides(left, t.paint(dim, m.data.now.In(m.zone).Format(time.TimeOnly)), m.width)
}

func (m model) tabs() string {
	var b strings.Builder
	for i, s := range m.screens {
		name := fmt.Sprintf("%d %s", i+1, s.title())
		if i == m.at {
			b.WriteString(m.theme.paint(strong, "["+name+"]"))
		} else {
			b.WriteString(m.theme.paint(dim, " "+name+" "))
		}
		b.WriteString(" ")
	}
	return b.String()
}

// state is the line that says whether what is shown is true now.
func (m model) state() string {
	t, d := m.theme, m.data
	if m.hint != "" {
		return t.paint(strong, "$ "+clean(m.hint))
	}
	if d.daemonDead() {
		text := "the daemon is dead"
		if !d.status.at.IsZero() {
			text += ", this is as of " + render.Ago(d.status.at, d.now) + ago(d.status.at, d.now)
		}
		text += "; flix lab up starts a new one"
		return t.paint(bad, t.fit(glyph(bad)+" "+text, m.width))
	}
	if tr := d.troubles(); len(tr) > 0 {
		text := strings.Join(tr, " · ")
		if d.status.err != nil && !d.status.at.IsZero() {
			text = "as of " + render.Ago(d.status.at, d.now) + ago(d.status.at, d.now) + " · " + text
		}
		return t.paint(bad, t.fit(glyph(bad)+" "+text, m.width))
	}
	if d.status.at.IsZero() {
		return t.paint(warn, glyph(warn)+" waiting for the daemon's first answer")
	}
	return t.paint(good, glyph(good)+" live")
}

// ago completes what render.Ago starts: "now" needs no "ago".
func ago(at, now time.Time) string {
	if render.Ago(at, now) == "now" {
		return ""
	}
	return " ago"
}

// footer is the keys that matter most here.
func (m model) footer() string {
	var parts []string
	switch {
	case m.help:
		parts = []string{"? or esc closes this", "q quit"}
	case m.screens[m.at].typing():
		parts = []string{"type words", "enter keep", "esc clear", "ctrl+c quit"}
	default:
		parts = []string{"? help", "q quit", "y command"}
		short := map[string]string{"/": "filter", "enter": "open", "esc": "back", "f": "follow"}
		for _, b := range m.screens[m.at].keys() {
			if word, ok := short[b.Help().Key]; ok {
				parts = append(parts, b.Help().Key+" "+word)
			}
		}
	}
	return m.theme.paint(dim, m.theme.fit(strings.Join(parts, " · "), m.width))
}

// sides puts two texts at the ends of a line; the right one stays whole.
func sides(left, right string, width int) string {
	gap := width - lipgloss.Width(left) - lipgloss.Width(right)
	if gap < 1 {
		return left
	}
	return left + strings.Repeat(" ", gap) + right
}
