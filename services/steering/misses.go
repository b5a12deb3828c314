package steering

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/topology"
)

// Classified misses, after what the Open Connect operator published in 2025: a
// viewer who is not served by the nearest appliances is a miss, of health (H) if
// one of those had the title and could not serve, of content (C) if none had it.
// T is a viewer in no announced prefix: an exchange serves by transit.

// Miss counts the misses of one appliance, title or country.
type Miss struct {
	Cause string `json:"cause"` // H, C or T
	By    string `json:"by"`    // appliance, title or country
	Name  string `json:"name"`
	// Decisions are the rankings that missed.
	Decisions uint64 `json:"decisions"`
	// Bytes is the size of what was asked for: what came from farther away at
	// most.
	Bytes uint64 `json:"bytes"`
}

// Misses is what a steering instance counted since it started.
type Misses struct {
	Misses []Miss `json:"misses"`
	// Decisions and Bytes are of all misses, each once, by cause.
	Decisions map[string]uint64 `json:"decisions"`
	Bytes     map[string]uint64 `json:"bytes"`
}

const (
	// maxMissNames bounds the names of a cause and kind; what comes beyond is
	// counted as missOthers.
	maxMissNames = 10_000
	missOthers   = "(others)"
)

type missKey struct{ cause, by, name string }

type missGroup struct{ cause, by string }

// tally counts misses. The zero value is ready; a hit takes no lock. Safe for
// concurrent use.
type tally struct {
	planet atomic.Pointer[topology.Topology]

	mu    sync.Mutex
	names map[missGroup]int
	by    map[missKey]*Miss
	total Misses
}

// init makes the maps. Called with the lock held.
func (m *tally) init() {
	if m.by == nil {
		m.names, m.by = map[missGroup]int{}, map[missKey]*Miss{}
		m.total = Misses{Decisions: map[string]uint64{}, Bytes: map[string]uint64{}}
	}
}

// causeOf says what kind of miss a decision was; "" if it was none.
func (q *query) causeOf() string {
	switch {
	case q.title == nil:
		return ""
	case q.nearest == transit:
		return "T"
	case !q.missed:
		return ""
	case q.onHealth:
		return "H"
	}
	return "C"
}

// missed counts a decision if it was a miss.
func (s *Server) missed(q *query, t *table, titleID string) {
	cause := q.causeOf()
	if cause == "" {
		return
	}
	country := ""
	if p := s.tally.planet.Load(); p != nil {
		country = p.CountryOf(q.addr)
	}
	nearest := t.nearestTo(q.addr)
	m := &s.tally
	m.mu.Lock()
	defer m.mu.Unlock()
	m.init()
	bytes := q.title.bytes
	m.total.Decisions[cause]++
	m.total.Bytes[cause] += bytes
	m.add(cause, "title", titleID, bytes)
	m.add(cause, "country", cmp.Or(country, "ZZ"), bytes)
	for _, id := range nearest {
		m.add(cause, "appliance", id, bytes)
	}
}

// add counts one name. Called with the lock held.
func (m *tally) add(cause, by, name string, bytes uint64) {
	k := missKey{cause, by, name}
	if m.by[k] == nil && m.names[missGroup{cause, by}] >= maxMissNames {
		k.name = missOthers
	}
	x := m.by[k]
	if x == nil {
		x = &Miss{Cause: cause, By: by, Name: k.name}
		m.by[k] = x
		m.names[missGroup{cause, by}]++
	}
	x.Decisions++
	x.Bytes += bytes
}

// nearestTo lists the appliances that announce the longest prefix of a client
// and are best by class, path and discriminator.
func (t *table) nearestTo(addr netip.Addr) (ids []string) {
	for _, o := range t.routes.covering(addr) {
		if len(o.groups) == 0 {
			continue
		}
		best := o.groups[0]
		for _, r := range o.routes {
			if r.path != best.path || r.med != best.med || r.slot >= len(t.apps) {
				continue
			}
			if a := t.apps[r.slot]; a != nil && a.isp == (best.class == embedded) {
				ids = append(ids, a.id)
			}
		}
		break
	}
	return ids
}

// list returns what was counted, most decisions first.
func (m *tally) list() Misses {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := Misses{Misses: make([]Miss, 0, len(m.by)), Decisions: map[string]uint64{}, Bytes: map[string]uint64{}}
	for _, x := range m.by {
		out.Misses = append(out.Misses, *x)
	}
	for cause, n := range m.total.Decisions {
		out.Decisions[cause], out.Bytes[cause] = n, m.total.Bytes[cause]
	}
	SortMisses(out.Misses)
	return out
}

// SortMisses puts the most frequent first.
func SortMisses(ms []Miss) {
	slices.SortFunc(ms, func(a, b Miss) int {
		return cmp.Or(cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.By, b.By), cmp.Compare(a.Name, b.Name))
	})
}

var (
	missDesc      = prometheus.NewDesc("steering_missed_total", "Rankings not served by the nearest appliances, by cause (H: health, C: content, T: in no announced prefix), and by appliance or country.", []string{"cause", "by", "name"}, nil)
	missBytesDesc = prometheus.NewDesc("steering_missed_bytes_total", "Size of what those rankings asked for.", []string{"cause", "by", "name"}, nil)
)

// Describe implements prometheus.Collector.
func (*tally) Describe(ch chan<- *prometheus.Desc) {
	ch <- missDesc
	ch <- missBytesDesc
}

// Collect implements prometheus.Collector. Titles are left to the verb: there
// are too many for a label.
func (m *tally) Collect(ch chan<- prometheus.Metric) {
	for _, x := range m.list().Misses {
		if x.By == "title" {
			continue
		}
		ch <- prometheus.MustNewConstMetric(missDesc, prometheus.CounterValue, float64(x.Decisions), x.Cause, x.By, x.Name)
		ch <- prometheus.MustNewConstMetric(missBytesDesc, prometheus.CounterValue, float64(x.Bytes), x.Cause, x.By, x.Name)
	}
}
