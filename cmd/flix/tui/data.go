package tui

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/control"
)

const (
	// keptEvents bounds the events that can be scrolled back to.
	keptEvents = 1000
	// keptSessions bounds the plays shown, the newest first.
	keptSessions = 500
	// keptRates is how many polls a sparkline can look back.
	keptRates = 120
)

// known is the last answer of a kind: its value stays when a poll fails.
type known[T any] struct {
	value T
	at    time.Time // of the value; zero before the first
	err   error     // of the last poll
}

func (k known[T]) with(a answer[T]) known[T] {
	if a.err != nil {
		k.err = a.err
		return k
	}
	return known[T]{value: a.value, at: a.at}
}

// data is all that the screens show. Its methods return a changed copy and
// share nothing they write with the original.
type data struct {
	now    time.Time
	status known[control.Status]
	fill   known[control.FillStatus]
	plays  known[[]control.Session]
	moves  known[[]control.Failover]
	// commands are those of each role, all its instances together.
	commands known[[]control.Command]
	events   []control.Event
	broken   error // of the event stream
	// rates are bytes per second that the sessions of a region took, a sample
	// for each poll, the newest last.
	rates map[string][]float64
}

// take returns the data with a message of the feed worked in.
func (d data) take(msg any) data {
	switch m := msg.(type) {
	case clock:
		d.now = time.Time(m)
	case answer[control.Status]:
		d.status = d.status.with(m)
	case answer[control.FillStatus]:
		d.fill = d.fill.with(m)
	case answer[[]control.Failover]:
		d.moves = d.moves.with(m)
	case answer[[]control.Session]:
		if m.err == nil {
			m.value = orderPlays(m.value)
			d.rates = d.measure(m)
		}
		d.plays = d.plays.with(m)
	case answer[control.Commands]:
		d.commands = d.commands.with(answer[[]control.Command]{m.at, m.value.ByRole(), m.err})
	case stream:
		d.broken = m.err
	case news:
		d.broken = nil
		if m.fresh {
			d.events = nil
		}
		all := slices.Concat(d.events, m.events)
		d.events = all[max(0, len(all)-keptEvents):]
	}
	return d
}

// orderPlays puts those that run first, in an order that stays from poll to
// poll; then those that ended, the newest first.
func orderPlays(in []control.Session) []control.Session {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b control.Session) int { return b.Updated.Compare(a.Updated) })
	out = out[:min(len(out), keptSessions)]
	slices.SortStableFunc(out, func(a, b control.Session) int {
		ra, rb := a.State == "playing", b.State == "playing"
		switch {
		case ra && rb:
			return cmp.Compare(a.Session, b.Session)
		case ra:
			return -1
		case rb:
			return 1
		}
		return 0
	})
	return out
}

// measure adds a sample of each region's rate: the bytes its sessions took
// since the poll before, over the time between them.
func (d data) measure(m answer[[]control.Session]) map[string][]float64 {
	if d.plays.at.IsZero() || !m.at.After(d.plays.at) {
		return d.rates // a first total says nothing of a rate
	}
	before := make(map[string]uint64, len(d.plays.value))
	for _, s := range d.plays.value {
		before[s.Session] = s.Bytes
	}
	took := map[string]float64{}
	for _, r := range d.status.value.Regions {
		took[r.Name] = 0
	}
	for _, s := range m.value {
		if _, ok := took[s.Region]; ok && s.Bytes > before[s.Session] {
			took[s.Region] += float64(s.Bytes - before[s.Session])
		}
	}
	out := make(map[string][]float64, len(took))
	for r, bytes := range took {
		all := append(slices.Clone(d.rates[r]), bytes/m.at.Sub(d.plays.at).Seconds())
		out[r] = all[max(0, len(all)-keptRates):]
	}
	return out
}

// playing counts the sessions of a region that run.
func (d data) playing(region string) int {
	n := 0
	for _, s := range d.plays.value {
		if s.Region == region && s.State == "playing" {
			n++
		}
	}
	return n
}

func (d data) daemonDead() bool { return errors.Is(d.status.err, control.ErrNoDaemon) }

// troubles says what does not answer, each error once with all it befell.
func (d data) troubles() []string {
	kinds := []struct {
		name string
		err  error
	}{
		{"status", d.status.err}, {"plays", d.plays.err}, {"fill", d.fill.err},
		{"evacuations", d.moves.err}, {"commands", d.commands.err}, {"events", d.broken},
	}
	var texts []string
	names := map[string][]string{}
	for _, k := range kinds {
		if k.err == nil {
			continue
		}
		t := k.err.Error()
		if names[t] == nil {
			texts = append(texts, t)
		}
		names[t] = append(names[t], k.name)
	}
	for i, t := range texts {
		texts[i] = strings.Join(names[t], ", ") + ": " + t
	}
	return texts
}
