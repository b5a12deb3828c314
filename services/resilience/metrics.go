package resilience

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// secondsBounds are the upper bounds of resilience_command_seconds: 0.1 ms and
// seven times four times that.
const (
	secondsFirst  = 100 * time.Microsecond
	secondsFactor = 4
	secondsBounds = 8
)

// seconds is a histogram for Prometheus that costs two additions.
type seconds struct {
	counts [secondsBounds + 1]atomic.Uint64
	nanos  atomic.Int64
}

func (s *seconds) add(d time.Duration) {
	i := 0
	for b := secondsFirst; i < secondsBounds && d > b; i++ {
		b *= secondsFactor
	}
	s.counts[i].Add(1)
	s.nanos.Add(int64(d))
}

// collector exposes the circuits' own counters, so that an event costs one
// addition.
type collector struct {
	g                                       *Group
	total, seconds, inFlight, breaker, most *prometheus.Desc
}

func newCollector(g *Group) *collector {
	of := []string{"command"}
	return &collector{
		g:        g,
		total:    prometheus.NewDesc("resilience_command_total", "What became of the calls of a command, by Hystrix's event types.", []string{"command", "event"}, nil),
		seconds:  prometheus.NewDesc("resilience_command_seconds", "Time of a command's own call, fallback excluded.", of, nil),
		inFlight: prometheus.NewDesc("resilience_command_inflight", "Calls of a command under way.", of, nil),
		breaker:  prometheus.NewDesc("resilience_breaker_state", "State of a command's breaker: 0 closed, 1 open, 2 half open.", of, nil),
		most:     prometheus.NewDesc("resilience_command_limit", "Calls of a command that may be under way at once.", of, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.total, m.seconds, m.inFlight, m.breaker, m.most} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, of string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, of)
	}
	for _, c := range m.g.sorted() {
		for i := range c.events {
			ch <- prometheus.MustNewConstMetric(m.total, prometheus.CounterValue, float64(c.events[i].Load()), c.name, event(i).String())
		}
		bounds := make(map[float64]uint64, secondsBounds)
		sum, n, b := uint64(0), time.Duration(c.seconds.nanos.Load()), secondsFirst
		for i := range secondsBounds {
			sum += c.seconds.counts[i].Load()
			bounds[b.Seconds()] = sum
			b *= secondsFactor
		}
		sum += c.seconds.counts[secondsBounds].Load()
		ch <- prometheus.MustNewConstHistogram(m.seconds, sum, n.Seconds(), bounds, c.name)
		gauge(m.inFlight, float64(c.inFlight.Load()), c.name)
		gauge(m.breaker, float64(c.breaker.state.Load()), c.name)
		gauge(m.most, float64(c.most()), c.name)
	}
}

// most is how many calls may be under way at once now.
func (c *circuit) most() int64 {
	n := c.settings.Load().maxConcurrent
	if l := c.limiter.Load(); l != nil {
		n = min(n, int64(l.Limit()))
	}
	return n
}
