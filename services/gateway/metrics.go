package gateway

import (
	"time"

	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one gateway.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	tries    *prometheus.CounterVec
	refused  *prometheus.CounterVec
	stayed   prometheus.Counter
}

func newMetrics(reg *prometheus.Registry, inFlight func() int, c *chain) *metrics {
	m := &metrics{
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
			Name: "gateway_refused_total", Help: "What the edge did not believe or take, by reason: proxy_header, limit, via, origin_outside.",
		}, []string{"reason"}),
		stayed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_evacuation_stayed_total", Help: "Requests answered here because no saver took them.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.tries, m.refused, m.stayed, newChainCollector(c),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_inflight", Help: "Requests under way."}, func() float64 { return float64(inFlight()) }))
	return m
}

// count is the built-in filter "metrics".
func (s *Server) count(ex *Exchange) error {
	ex.OnDone(func(ex *Exchange) {
		route, region, in := "none", ex.AnsweredBy, "no"
		if ex.Route != nil {
			route = ex.Route.Name
		}
		if region == "" {
			region = s.d.Region
		}
		if ex.ProxiedFrom != "" {
			in = "yes"
		}
		s.metrics.requests.WithLabelValues(route, strconv.Itoa(ex.Response.Status), region, in).Inc()
		took := time.Since(ex.Received)
		s.metrics.seconds.WithLabelValues(route).Observe(took.Seconds())
		s.edge.answered(ex.ProxiedFrom != "", took)
	})
	return nil
}
