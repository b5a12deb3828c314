package tui

import "github.com/charmbracelet/bubbles/key"

// globalKeys work on every screen, except while a filter is typed.
type globalKeys struct {
	quit, help, command, next, prev, jump key.Binding
	halt                                  key.Binding // works always
}

func newGlobalKeys() globalKeys {
	return globalKeys{
		jump:    bind("1-6", "go to a screen", "1", "2", "3", "4", "5", "6"),
		next:    bind("tab ]", "next screen", "tab", "]"),
		prev:    bind("shift+tab [", "screen before", "shift+tab", "["),
		command: bind("y", "command of this view", "y"),
		help:    bind("?", "this help", "?"),
		quit:    bind("q", "quit", "q"),
		halt:    bind("ctrl+c", "quit, always", "ctrl+c"),
	}
}

func (k globalKeys) list() []key.Binding {
	return []key.Binding{k.jump, k.next, k.prev, k.command, k.help, k.quit, k.halt}
}

// listKeys work where rows are listed.
type listKeys struct {
	up, down, pageUp, pageDown, top, bottom, filter, open, back, follow key.Binding
}

func newListKeys() listKeys {
	return listKeys{
		up:       bind("up k", "row above", "up", "k"),
		down:     bind("down j", "row below", "down", "j"),
		pageUp:   bind("pgup", "page up", "pgup", "ctrl+b"),
		pageDown: bind("pgdn", "page down", "pgdown", "ctrl+f"),
		top:      bind("g home", "first row", "g", "home"),
		bottom:   bind("G end", "last row", "G", "end"),
		filter:   bind("/", "filter rows by words", "/"),
		open:     bind("enter", "open", "enter"),
		back:     bind("esc", "back; clear the filter", "esc"),
		follow:   bind("f", "follow, or hold still", "f"),
	}
}

// moves are the keys that scroll.
func (k listKeys) moves() []key.Binding {
	return []key.Binding{k.up, k.down, k.pageUp, k.pageDown, k.top, k.bottom}
}

func bind(shown, what string, keys ...string) key.Binding {
	return key.NewBinding(key.WithKeys(keys...), key.WithHelp(shown, what))
}
