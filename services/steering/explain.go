package steering

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	pb "github.com/flix-lab/flix/services/steering/steeringpb"
)

// explanation is what a decision was made of, appliance by appliance, in the
// order in which they were considered.
type explanation struct{ notes []note }

type note struct {
	app     *appliance
	near    nearness
	verdict verdict
}

func (e *explanation) note(a *appliance, n nearness, v verdict) {
	e.notes = append(e.notes, note{a, n, v})
}

// The filters, in the order they are applied. Content is last but one, so that
// a miss is blamed on health only where the content was there.
var filters = [...]struct {
	name string
	by   verdict
}{{"healthy", sick}, {"fresh", stale}, {"content", lacking}, {"exclude", excluded}}

// decisions renders the explanation: for each appliance how it is reached, then
// each filter until one strikes it; then those that are out of reach.
func (e *explanation) decisions(t *table, q *query) []*pb.Decision {
	var out []*pb.Decision
	add := func(a *appliance, filter string, struck bool, why string) {
		out = append(out, &pb.Decision{Appliance: a.id, Filter: filter, Struck: struck, Why: why})
	}
	reached := map[*appliance]bool{}
	for _, n := range e.notes {
		if reached[n.app] {
			continue // a second look, at stale reports: it said so already
		}
		reached[n.app] = true
		add(n.app, "prefix", false, n.near.text())
		for _, f := range filters {
			if f.by != n.verdict {
				add(n.app, f.name, false, "")
				continue
			}
			add(n.app, f.name, f.by != excluded || !q.forgiving, t.why(q, n))
			break
		}
	}
	for _, a := range t.byID() {
		if a.isp && !reached[a] {
			add(a, "prefix", true, "inside an ISP that is not the client's")
		}
		for _, p := range a.wide {
			add(a, "prefix", false, fmt.Sprintf("ALARM: announces %v, more than one network has: ignored", p))
		}
	}
	return out
}

// text says how an appliance is reached.
func (n nearness) text() string {
	if n.class == transit {
		return fmt.Sprintf("an exchange, by transit, %v away", n.far)
	}
	s := fmt.Sprintf("announces the client, /%d", n.bits)
	if n.path > 0 || n.med > 0 {
		s += fmt.Sprintf(", %d networks on the way, MED %d", n.path, n.med)
	}
	if n.far > 0 {
		s += fmt.Sprintf(", %v away", n.far)
	}
	return s
}

func (t *table) why(q *query, n note) string {
	h := n.app.health.Load()
	switch n.verdict {
	case sick:
		return cmp.Or(h.reason, "it says so")
	case stale:
		return fmt.Sprintf("report is %v old", (time.Duration(q.nowMS-h.heard.UnixMilli()) * time.Millisecond).Round(time.Millisecond))
	case lacking:
		return fmt.Sprintf("not every file of version %d", q.title.version)
	case excluded:
		if q.forgiving {
			return "the client found it broken, and there is no other"
		}
		return "the client found it broken"
	case kept:
	}
	return ""
}

// byID lists the appliances in order of their names.
func (t *table) byID() []*appliance {
	var out []*appliance
	for _, a := range t.apps {
		if a != nil {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *appliance) int { return cmp.Compare(a.id, b.id) })
	return out
}
