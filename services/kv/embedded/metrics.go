package embedded

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
)

// metrics of one store.
type metrics struct {
	ops      *prometheus.CounterVec
	received *prometheus.CounterVec
	purged   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, l *replicator) *metrics {
	m := &metrics{
		ops:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kv_ops_total", Help: "Operations answered, by kind of error or ok."}, []string{"op", "kind"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kv_replication_received_total", Help: "Mutations received from a peer region."}, []string{"peer"}),
		purged:   prometheus.NewCounter(prometheus.CounterOpts{Name: "kv_purged_total", Help: "Expired cells and tombstones removed."}),
	}
	reg.MustRegister(m.ops, m.received, m.purged, lagCollector{
		l:       l,
		lag:     prometheus.NewDesc("kv_replication_lag_seconds", "Age of the oldest write that the peer region has not acknowledged.", []string{"peer"}, nil),
		pending: prometheus.NewDesc("kv_replication_pending", "Writes that the peer region has not acknowledged.", []string{"peer"}, nil),
		scan:    prometheus.NewDesc("kv_replication_scanning", "1 while the peer region gets a full copy.", []string{"peer"}, nil),
	})
	return m
}

func (m *metrics) op(name string, err error) {
	kind := "ok"
	if err != nil {
		kind = string(services.KindOf(err))
	}
	m.ops.WithLabelValues(name, kind).Inc()
}

// lagCollector reads the state of replication when it is asked for.
type lagCollector struct {
	l                  *replicator
	lag, pending, scan *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c lagCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.lag
	ch <- c.pending
	ch <- c.scan
}

// Collect implements prometheus.Collector.
func (c lagCollector) Collect(ch chan<- prometheus.Metric) {
	c.l.store.while(func() { c.collect(ch) })
}

func (c lagCollector) collect(ch chan<- prometheus.Metric) {
	for name, b := range c.l.backlogs() {
		lag, err := c.l.age(b.acked)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(c.lag, err)
			continue
		}
		scan := 0.0
		if b.scanning {
			scan = 1
		}
		ch <- prometheus.MustNewConstMetric(c.lag, prometheus.GaugeValue, lag.Seconds(), name)
		ch <- prometheus.MustNewConstMetric(c.pending, prometheus.GaugeValue, float64(b.pending), name)
		ch <- prometheus.MustNewConstMetric(c.scan, prometheus.GaugeValue, scan, name)
	}
}

type backlog struct {
	acked, pending uint64
	scanning       bool
}

func (l *replicator) backlogs() map[string]backlog {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]backlog, len(l.peers))
	for name, p := range l.peers {
		out[name] = backlog{acked: p.Acked, pending: l.head - p.Acked, scanning: p.Scanning}
	}
	return out
}

// age of the first write after a position; 0 when there is none.
func (l *replicator) age(seq uint64) (time.Duration, error) {
	hlc, ok, err := l.entryAfter(seq)
	if err != nil || !ok {
		return 0, err
	}
	return max(l.clock.now().Sub(timeOf(hlc)), 0), nil
}
