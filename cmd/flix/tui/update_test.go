package tui

import (
	"errors"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/flix-lab/flix/lab/control"
)

func TestScreensByKey(t *testing.T) {
	for _, c := range []struct {
		keys []string
		want int
	}{
		{[]string{"2"}, instancesAt}, {[]string{"5"}, eventsAt}, {[]string{"]"}, instancesAt}, {[]string{"["}, commandsAt},
		{[]string{"tab", "tab"}, playsAt}, {[]string{"shift+tab"}, commandsAt}, {[]string{"6", "]"}, regionsAt}, {[]string{"4", "1"}, regionsAt},
		{[]string{"6"}, commandsAt}, {[]string{"7"}, regionsAt}, {[]string{"?", "3"}, playsAt},
	} {
		if got := shown(80, 24, feedAll(), c.keys...).at; got != c.want {
			t.Errorf("%v leads to screen %d, want %d", c.keys, got, c.want)
		}
	}
}

// quits says whether a key ends the program.
func quits(m model, k string) bool {
	_, cmd := m.Update(keyOf(k))
	if cmd == nil {
		return false
	}
	_, ok := cmd().(tea.QuitMsg)
	return ok
}

func TestQuit(t *testing.T) {
	for _, c := range []struct {
		name string
		m    model
		q    bool
	}{
		{"regions", shown(80, 24, feedAll()), true},
		{"help", shown(80, 24, feedAll(), "?"), true},
		{"detail", shown(80, 24, feedAll(), "2", "enter"), true},
		{"small", shown(40, 10, feedAll()), true},
		{"typing a filter", shown(80, 24, feedAll(), "2", "/"), false},
	} {
		if got := quits(c.m, "q"); got != c.q {
			t.Errorf("%s: q quits: %v, want %v", c.name, got, c.q)
		}
		if !quits(c.m, "ctrl+c") {
			t.Errorf("%s: ctrl+c does not quit", c.name)
		}
	}
}

func TestHelpOpensAndCloses(t *testing.T) {
	m := shown(80, 24, feedAll(), "?")
	if !strings.Contains(m.View(), "Everywhere") {
		t.Fatal("? shows no help")
	}
	for _, k := range []string{"?", "esc"} {
		if press(m, k).help {
			t.Errorf("%s does not close the help", k)
		}
	}
	if m := press(m, "down", "enter"); m.at != regionsAt {
		t.Error("a key reached the screen behind the help")
	}
}

func TestCommandOfEachView(t *testing.T) {
	for _, c := range []struct {
		keys []string
		want string
	}{
		{[]string{"1"}, "flix lab status -w"}, {[]string{"2"}, "flix lab status -o wide"}, {[]string{"2", "enter"}, "flix lab logs -f us-east/a/dns/1"},
		{[]string{"3"}, "flix events -f"}, {[]string{"4"}, "flix fill status -w"}, {[]string{"5"}, "flix events -f"}, {[]string{"6"}, "flix command ls"},
	} {
		m := shown(80, 24, feedAll(), append(c.keys, "y")...)
		if m.hint != c.want || !strings.Contains(m.View(), "$ "+c.want) {
			t.Errorf("%v: y shows %q, want %q", c.keys, m.hint, c.want)
		}
		if press(m, "y").hint != "" || press(m, "down").hint != "" {
			t.Errorf("%v: the command stays after the next key", c.keys)
		}
	}
	m := shown(80, 24, feedAll())
	m.flags = "--name other"
	if got := press(m, "4", "y").hint; got != "flix fill status -w --name other" {
		t.Errorf("of another lab: %q", got)
	}
}

func TestFilter(t *testing.T) {
	m := shown(80, 24, feedAll(), append([]string{"2", "/"}, letters("WEST lic")...)...)
	s := m.screens[instancesAt].(instances)
	if _, names, all := s.shown(m.data); len(names) != 4 || all != 96 {
		t.Errorf("%d of %d instances pass the filter: %v", len(names), all, names)
	}
	m = press(m, "backspace", "backspace", "backspace", "enter")
	if s := m.screens[instancesAt].(instances); s.list.filter != "WEST " || s.list.typing {
		t.Errorf("after enter the filter is %+v", s.list)
	}
	if s := press(m, "esc").screens[instancesAt].(instances); s.list.filter != "" {
		t.Errorf("esc keeps the filter %q", s.list.filter)
	}
	m = press(m, append([]string{"/"}, letters(strings.Repeat("x", 100))...)...)
	if s := m.screens[instancesAt].(instances); len(s.list.filter) > filterLimit {
		t.Errorf("a filter of %d runes", len(s.list.filter))
	}
	if !strings.Contains(m.View(), "0 of 96") {
		t.Errorf("a filter that nothing passes:\n%s", m.View())
	}
	if quit := press(m, "enter", "enter"); quit.screens[instancesAt].(instances).open.of != "" {
		t.Error("enter opened an instance of an empty list")
	}
}

func TestRegionOpensItsInstances(t *testing.T) {
	m := shown(80, 24, feedAll(), "down", "enter")
	if m.at != instancesAt || m.screens[instancesAt].(instances).list.filter != "us-west/" {
		t.Fatalf("screen %d with %+v", m.at, m.screens[instancesAt])
	}
	if view := m.View(); strings.Contains(view, "us-east/a") || !strings.Contains(view, "us-west/a/dns/1") {
		t.Errorf("not the region's instances:\n%s", view)
	}
}

func TestCursorStaysWithItsRow(t *testing.T) {
	m := shown(80, 24, feedAll(), "2", "down", "down", "down")
	at := func(m model) string {
		s := m.screens[instancesAt].(instances)
		_, names, _ := s.shown(m.data)
		return s.list.name(names)
	}
	was := at(m)
	st := sampleStatus()
	st.Regions[0].Instances = st.Regions[0].Instances[2:] // two above it went
	m = send(m, answer[control.Status]{noon, st, nil})
	if at(m) != was {
		t.Errorf("the cursor moved from %s to %s", was, at(m))
	}
	st.Regions = nil
	m = send(m, answer[control.Status]{noon, st, nil})
	if at(m) != "" {
		t.Errorf("the cursor is on %q of nothing", at(m))
	}
	press(m, "down", "up", "pgdown", "G", "g", "enter", "esc")
}

func TestDetailOfAnInstanceThatGoes(t *testing.T) {
	m := shown(80, 24, feedAll(), "2", "enter")
	st := sampleStatus()
	st.Regions = st.Regions[1:]
	m = send(m, answer[control.Status]{noon, st, nil})
	if !strings.Contains(m.View(), "no longer part of the lab") {
		t.Errorf("the detail of what is gone:\n%s", m.View())
	}
	if press(m, "esc").screens[instancesAt].(instances).open.of != "" {
		t.Error("esc does not go back")
	}
}

func TestEventsFollowAndHold(t *testing.T) {
	m := shown(80, 24, feedAll(), "5")
	more := func(m model, n int) model {
		return send(m, news{events: []control.Event{{Seq: uint64(100 + n), At: noon, Kind: "lab.up", Text: "brand new"}}})
	}
	if !strings.Contains(more(m, 0).View(), "brand new") {
		t.Error("following shows no new event")
	}
	held := more(press(m, "up"), 0)
	if strings.Contains(held.View(), "brand new") || !strings.Contains(held.View(), "◐ held") {
		t.Errorf("held still moves:\n%s", held.View())
	}
	for _, k := range []string{"G", "f"} {
		if again := press(held, k); !strings.Contains(again.View(), "brand new") || !strings.Contains(again.View(), "● following") {
			t.Errorf("%s does not follow again:\n%s", k, again.View())
		}
	}
}

func TestEventsAreBounded(t *testing.T) {
	m := send(shown(80, 24, nil, "5"), news{events: sampleEvents(keptEvents)}, news{events: sampleEvents(keptEvents)}, news{events: sampleEvents(7)})
	if n := len(m.data.events); n != keptEvents {
		t.Errorf("%d events kept", n)
	}
	m = send(m, news{fresh: true})
	if n := len(m.data.events); n != 0 {
		t.Errorf("%d events of another log kept", n)
	}
}

func TestSessionsAreOrderedAndBounded(t *testing.T) {
	var many []control.Session
	for i := range 2 * keptSessions {
		many = append(many, control.Session{Session: string(rune('a' + i%26)), State: "stopped", Updated: noon.Add(time.Duration(i) * time.Second)})
	}
	many[len(many)-1].State = "playing"
	got := orderPlays(many)
	if len(got) != keptSessions || got[0].State != "playing" {
		t.Errorf("%d sessions, the first is %s", len(got), got[0].State)
	}
	if !got[1].Updated.After(got[2].Updated) {
		t.Error("ended plays are not the newest first")
	}
}

func TestRates(t *testing.T) {
	status := answer[control.Status]{noon, control.Status{Regions: []control.RegionStatus{{Name: "r"}}}, nil}
	sessions := func(s int, bytes ...uint64) tea.Msg {
		var v []control.Session
		for i, b := range bytes {
			v = append(v, control.Session{Session: string(rune('a' + i)), Region: "r", Bytes: b})
		}
		return answer[[]control.Session]{noon.Add(time.Duration(s) * time.Second), v, nil}
	}
	var d data
	for _, m := range []any{status, sessions(0, 5000), sessions(1, 6000), sessions(3, 6000, 400), sessions(4, 100, 400)} {
		d = d.take(m)
	}
	want := []float64{1000, 200, 0} // a counter that fell has started anew
	got := d.rates["r"]
	if len(got) != len(want) {
		t.Fatalf("samples %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("samples %v, want %v", got, want)
		}
	}
	d = d.take(answer[[]control.Session]{err: errors.New("gone")})
	d = d.take(sessions(14, 10_100, 400))
	if got := d.rates["r"][3]; got != 1000 {
		t.Errorf("the rate over a gap is %g, want 1000", got)
	}
}

func TestAnAnswerOutlivesAnError(t *testing.T) {
	m := send(shown(80, 24, feedAll()), answer[control.Status]{noon, control.Status{}, errors.New("no answer within 5s")}, clock(noon.Add(7*time.Second)))
	if view := m.View(); !strings.Contains(view, "us-east") || !strings.Contains(view, "as of 7s ago") || !strings.Contains(view, "no answer within 5s") {
		t.Errorf("after an error:\n%s", view)
	}
	m = send(m, answer[control.Status]{noon.Add(8 * time.Second), sampleStatus(), nil})
	if view := m.View(); !strings.Contains(view, "● live") {
		t.Errorf("after it answers again:\n%s", view)
	}
}

func TestUpdateLeavesTheOldModelAlone(t *testing.T) {
	old := shown(80, 24, feedAll())
	before := old.View()
	press(send(old, clock(noon.Add(time.Hour)), news{events: sampleEvents(3)},
		answer[[]control.Session]{noon.Add(time.Hour), sampleSessions(99), nil}), "2", "down", "/", "x")
	if after := old.View(); after != before {
		t.Errorf("an update changed the model it came from:\n%s\n%s", before, after)
	}
}

func TestNamesCannotDrawOnTheTerminal(t *testing.T) {
	st := sampleStatus()
	st.Name, st.Regions[0].Name = "a\x1b[2Jb", "x\u202ey\r\n"
	st.Regions[0].Instances[0].Name = "evil\x1b]0;title\x07"
	st.Regions[0].Instances[0].Error = "\x1b[31mred\n\x9b2J"
	st.Regions[0].Instances[0].State = "bro\x1bken"
	es := []control.Event{{Seq: 1, Kind: "k\x1b[H", Text: "t\x1b[H\u2067", Data: map[string]any{"d\x1b[H": "v\x1b[H"}}}
	ss := []control.Session{{Session: "s\x1b[H", Title: "t\x1b[H", State: "s\x1b[H"}}
	msgs := []tea.Msg{clock(noon), answer[control.Status]{noon, st, nil}, news{events: es}, answer[[]control.Session]{noon, ss, nil},
		answer[control.FillStatus]{err: errors.New("e\x1b[H")}}
	for _, keys := range [][]string{{"1"}, {"2"}, {"2", "enter"}, {"2", "enter", "y"}, {"3"}, {"3", "enter"}, {"5"}, {"5", "enter"}} {
		view := shown(100, 30, msgs, keys...).View()
		for _, r := range "\x1b\x07\r\u009b\u202e\u2067" {
			if strings.ContainsRune(view, r) {
				t.Errorf("%v: %q reached the terminal:\n%q", keys, r, view)
			}
		}
	}
}

func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		width   int
		top     float64
		want    string
	}{
		{nil, 5, 10, ""},
		{[]float64{0, 0.1, 5, 10}, 8, 10, "▁▂▅█"},
		{[]float64{9, 9, 0, 10}, 2, 10, "▁█"},
		{[]float64{0, 0}, 2, 0, "▁▁"},
		{[]float64{20}, 2, 10, "█"},
		{[]float64{1}, 0, 1, ""},
	} {
		if got := sparkline(c.samples, c.width, c.top); got != c.want {
			t.Errorf("sparkline(%v, %d, %g) = %q, want %q", c.samples, c.width, c.top, got, c.want)
		}
	}
}

// A running evacuation may have neither a start nor steps in its report yet.
func TestEvacuationWithoutReport(t *testing.T) {
	m := send(shown(80, 24, feedAll()), answer[[]control.Failover]{noon, []control.Failover{{ID: "3", Verb: "failover", Region: "us-west", State: "running"}}, nil},
		news{events: []control.Event{
			{Seq: 90, Kind: "failover.step", Subject: "us-west", Text: "its gateways send 100% to the savers"},
			{Seq: 91, Kind: "failback.step", Subject: "us-west", Text: "of another verb"},
			{Seq: 92, Kind: "failover.step", Subject: "us-east", Text: "of another region"},
		}})
	view := m.View()
	if !strings.Contains(view, "failover of us-west  ◐ running\n    its gateways send 100% to the savers\n") {
		t.Errorf("a running evacuation:\n%s", view)
	}
}

// A terminal hands over keys typed fast in one read, and pasted text marked.
func TestKeysInOneRead(t *testing.T) {
	m := send(shown(80, 24, feedAll()), tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("2/license")})
	if s := m.screens[instancesAt].(instances); m.at != instancesAt || s.list.filter != "license" {
		t.Errorf("screen %d with the filter %q", m.at, s.list.filter)
	}
	m = send(m, tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(" west\nx"), Paste: true})
	if s := m.screens[instancesAt].(instances); s.list.filter != "license west x" {
		t.Errorf("after a paste the filter is %q", s.list.filter)
	}
	m = send(shown(80, 24, feedAll()), tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("3"), Paste: true})
	if m.at != regionsAt {
		t.Error("pasted text acts as keys")
	}
	if _, cmd := shown(80, 24, nil).Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("2q")}); cmd == nil {
		t.Error("q after another key in one read does not quit")
	}
}
