package steering

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// kind is where the best appliance of a decision stands.
type kind int

const (
	kindNone kind = iota
	kindISP
	kindExchange
	kindTransit
	kinds
)

// result is how a decision ended.
type result int

const (
	resultOK result = iota
	// resultStale: cache control is away and every report is stale.
	resultStale
	// resultExcluded: the client found everybody broken who may serve, and is
	// offered them again.
	resultExcluded
	// resultNoReplica: nobody holds the title.
	resultNoReplica
	// resultNotLive: the title may not be played yet.
	resultNotLive
	// resultUnhealthy: who holds it is unhealthy or stale.
	resultUnhealthy
	// resultNotReady: nothing has been heard from cache control yet.
	resultNotReady
	results
)

// cause of a miss.
type cause int

const (
	missHealth cause = iota
	missContent
	causes
)

// metrics of a steering instance. The counters are looked up once: a lookup
// by label takes a lock.
type metrics struct {
	decisions [kinds][results]prometheus.Counter
	misses    [causes][transit + 1]prometheus.Counter
}

func newMetrics(reg *prometheus.Registry, s *Server) *metrics {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "steering_decisions_total", Help: "Rankings, by the kind of site ranked first (transit: an exchange that does not announce the client) and result.",
	}, []string{"kind", "result"})
	misses := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "steering_misses_total", Help: "Rankings in which no nearest appliance qualified, by cause (H: health, C: content) and the nearest's kind.",
	}, []string{"cause", "kind"})
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "steering_oldest_report_seconds", Help: "Age of the oldest last report of an appliance.",
	}, s.oldest)
	connected := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "steering_connected", Help: "1 while cache control's stream is up.",
	}, func() float64 {
		if s.connected.Load() {
			return 1
		}
		return 0
	})
	wide := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "steering_ignored_prefixes", Help: "Prefixes that appliances announce and that are ignored: default routes, and others that cover more than one network has.",
	}, s.ignored)
	reg.MustRegister(decisions, misses, wide, age, connected, &s.tally)
	m := &metrics{}
	for k, name := range [kinds]string{"none", "isp", "exchange", "transit"} {
		for r, result := range [results]string{"ok", "stale", "excluded", "no_replica", "not_live", "unhealthy", "not_ready"} {
			m.decisions[k][r] = decisions.WithLabelValues(name, result)
		}
	}
	for c, name := range [causes]string{"H", "C"} {
		for k, kind := range [...]string{"isp", "exchange", "transit"} {
			m.misses[c][k] = misses.WithLabelValues(name, kind)
		}
	}
	return m
}

func (m *metrics) decided(k kind, r result)   { m.decisions[k][r].Inc() }
func (m *metrics) missed(c cause, near class) { m.misses[c][near].Inc() }

// kindOf is where a pick stands.
func (t *table) kindOf(x *pick) kind {
	switch {
	case x.class == transit:
		return kindTransit
	case t.apps[x.slot].isp:
		return kindISP
	}
	return kindExchange
}

// ignored counts the prefixes that are announced and not believed.
func (s *Server) ignored() float64 {
	n := 0
	for _, a := range s.table.Load().apps {
		if a != nil {
			n += len(a.wide)
		}
	}
	return float64(n)
}

// oldest is the age of the oldest last report, in seconds.
func (s *Server) oldest() float64 {
	t, now, age := s.table.Load(), time.Now(), time.Duration(0)
	for _, a := range t.apps {
		if a == nil {
			continue
		}
		if h := a.health.Load(); !h.heard.IsZero() {
			age = max(age, now.Sub(h.heard))
		}
	}
	return age.Seconds()
}
