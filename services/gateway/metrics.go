package gateway

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one gateway.
type metrics struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	tries      *prometheus.CounterVec
	refused    *prometheus.CounterVec
	stayed     prometheus.Counter
	categories [categories]prometheus.Counter
	shed       [len(classNames)]prometheus.Counter
	region     string
	none       *routeCounts
}

func newMetrics(reg *prometheus.Registry, region string, inFlight func() int, c *chain) *metrics {
	m := &metrics{
		region: region,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_requests_total", Help: "Requests answered. origin_region is where the API that answered runs; proxied_in says that another region's gateway passed the request on.",
		}, []string{"route", "status", "origin_region", "proxied_in"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_request_seconds", Help: "Time from a request's header to the last byte of its response.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 10),
		}, []string{"route"}),
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_tries_total", Help: "Tries to have a request answered, by VIP (or saver) and outcome.",
		}, []string{"vip", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_refused_total", Help: "What the edge did not believe or take, by reason: proxy_header, limit, via, origin_outside, debug.",
		}, []string{"reason"}),
		stayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_evacuation_stayed_total", Help: "Requests answered here because no saver took them.",
		}),
	}
	status := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_status_total", Help: "Requests by how they ended in the gateway's eyes: names and ids of Zuul's status categories.",
	}, []string{"category", "id"})
	for k := range m.categories {
		m.categories[k] = status.WithLabelValues(Category(k).String(), Category(k).ID())
	}
	shed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_shed_total", Help: "Requests not taken because of overload, by priority class.",
	}, []string{"class"})
	for k := range m.shed {
		m.shed[k] = shed.WithLabelValues(Class(k).String())
	}
	m.none = m.route("none")
	reg.MustRegister(m.requests, m.seconds, m.tries, m.refused, m.stayed, status, shed, newChainCollector(c),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_inflight", Help: "Requests under way."}, func() float64 { return float64(inFlight()) }))
	return m
}

// Statuses that a routeCounts finds by index.
const (
	firstStatus = 100
	statuses    = 500
)

// routeCounts are a route's counters for requests of this region's own, found
// without looking for them among all of the gateway's.
type routeCounts struct {
	name    string
	seconds prometheus.Observer
	status  [statuses]atomic.Pointer[prometheus.Counter]
}

func (m *metrics) route(name string) *routeCounts {
	return &routeCounts{name: name, seconds: m.seconds.WithLabelValues(name)}
}

// answered counts a request of the route.
func (m *metrics) answered(rc *routeCounts, status int, region string, proxied bool, took time.Duration) {
	rc.seconds.Observe(took.Seconds())
	k := status - firstStatus
	if region != m.region || proxied || k < 0 || k >= statuses {
		in := "no"
		if proxied {
			in = "yes"
		}
		m.requests.WithLabelValues(rc.name, strconv.Itoa(status), region, in).Inc()
		return
	}
	c := rc.status[k].Load()
	if c == nil {
		made := m.requests.WithLabelValues(rc.name, strconv.Itoa(status), region, "no")
		c = &made
		rc.status[k].Store(c)
	}
	(*c).Inc()
}

// count is the built-in filter "metrics".
func (s *Server) count(ex *Exchange) error {
	ex.OnDone(s.counted)
	return nil
}

// countDone counts a request that is over.
func (s *Server) countDone(ex *Exchange) {
	rc, region := s.metrics.none, ex.AnsweredBy
	if ex.Route != nil && ex.Route.compiled != nil {
		rc = ex.Route.compiled.counts
	}
	if region == "" {
		region = s.d.Region
	}
	took := ex.looked
	s.metrics.answered(rc, ex.Response.Status, region, ex.ProxiedFrom != "", took)
	if ex.health {
		return
	}
	if ex.ProxiedFrom == "" && ex.Request.Method == http.MethodPost && ex.Request.Path == s.d.PlayPath {
		s.edge.began(ex.Response.Status)
	}
	s.edge.answered(ex.ProxiedFrom != "", ex.Response.Status, ex.Received.Add(took), took)
}

// chainCollector exposes what the filters count themselves, so that a run
// costs two additions.
type chainCollector struct {
	c                               *chain
	total, seconds, inFlight, onOff *prometheus.Desc
}

func newChainCollector(c *chain) *chainCollector {
	return &chainCollector{
		c:        c,
		total:    prometheus.NewDesc("gateway_filter_total", "Runs of a filter; rejected ones met its concurrency limit.", []string{"filter", "result"}, nil),
		seconds:  prometheus.NewDesc("gateway_filter_seconds_total", "Time spent in a filter, estimated: a run that is timed stands for those since the last one.", []string{"filter"}, nil),
		inFlight: prometheus.NewDesc("gateway_filter_inflight", "Requests in a filter that has a concurrency limit.", []string{"filter"}, nil),
		onOff:    prometheus.NewDesc("gateway_filter_enabled", "1 while a filter is switched on.", []string{"filter"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (cc *chainCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- cc.total
	ch <- cc.seconds
	ch <- cc.inFlight
	ch <- cc.onOff
}

// Collect implements prometheus.Collector.
func (cc *chainCollector) Collect(ch chan<- prometheus.Metric) {
	for _, st := range cc.c.all {
		ch <- prometheus.MustNewConstMetric(cc.total, prometheus.CounterValue, float64(st.ok.Load()), st.Name, "ok")
		ch <- prometheus.MustNewConstMetric(cc.total, prometheus.CounterValue, float64(st.failed.Load()), st.Name, "error")
		ch <- prometheus.MustNewConstMetric(cc.total, prometheus.CounterValue, float64(st.rejected.Load()), st.Name, "rejected")
		ch <- prometheus.MustNewConstMetric(cc.seconds, prometheus.CounterValue, time.Duration(st.nanos.Load()).Seconds(), st.Name)
		ch <- prometheus.MustNewConstMetric(cc.inFlight, prometheus.GaugeValue, float64(st.inFlight.Load()), st.Name)
		on := 1.0
		if st.disabled.Load() {
			on = 0
		}
		ch <- prometheus.MustNewConstMetric(cc.onOff, prometheus.GaugeValue, on, st.Name)
	}
}
