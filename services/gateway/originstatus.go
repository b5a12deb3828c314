package gateway

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services/telemetry"
)

// OriginStatus is what a gateway knows of the servers of a VIP.
type OriginStatus struct {
	VIP string `json:"vip"`
	// InFlight requests are under way, Limit may be.
	InFlight int64 `json:"in_flight"`
	Limit    int64 `json:"limit"`
	// Refused requests were beyond the limit, RetriesWithheld tries beyond the
	// budget of retries.
	Refused         uint64         `json:"refused"`
	RetriesWithheld uint64         `json:"retries_withheld"`
	Servers         []ServerStatus `json:"servers"`
}

// ServerStatus is what a gateway knows of a server.
type ServerStatus struct {
	ID       string `json:"id"`
	Addr     string `json:"addr"`
	OwnZone  bool   `json:"own_zone"`
	InFlight int64  `json:"in_flight"`
	// LatencyMS is the mean time to an answer's header, in milliseconds.
	LatencyMS float64 `json:"latency_ms"`
	// Utilisation is what the server says of itself, 0 to 1.
	Utilisation float64 `json:"utilisation"`
	// Failures in a row.
	Failures int64 `json:"failures"`
	// Probation: it is new or has failed, and gets few requests.
	Probation bool `json:"probation"`
	// OutUntil is when it is asked again; absent while it is.
	OutUntil *time.Time `json:"out_until,omitempty"`
}

// Origins reports on every VIP that was asked for.
func (s *Server) Origins() []OriginStatus {
	now := time.Now()
	s.guards.mu.RLock()
	open := maps.Clone(s.guards.open)
	s.guards.mu.RUnlock()
	out := make([]OriginStatus, 0, len(open))
	for _, vip := range slices.Sorted(maps.Keys(open)) {
		g := open[vip]
		o := OriginStatus{
			VIP: vip, InFlight: g.Load(), Limit: g.adaptive.now(*s.settings.limit.Load(), s.settings.concurrency.Load()),
			Refused: g.refused.Load(), RetriesWithheld: g.budget.withheld.Load(), Servers: []ServerStatus{},
		}
		if v := g.view.Load(); v != nil {
			for _, srv := range v.reached() {
				o.Servers = append(o.Servers, statusOfServer(srv, now))
			}
		}
		out = append(out, o)
	}
	return out
}

func statusOfServer(srv server, now time.Time) ServerStatus {
	l := srv.load
	st := ServerStatus{
		ID: srv.id, Addr: srv.addr, OwnZone: srv.rank == 0, InFlight: l.InFlight.Load(),
		LatencyMS: l.Latency(now) / float64(time.Millisecond), Utilisation: l.Busy(now),
		Failures: l.failures.Load(), Probation: l.answers.Load() < probationAnswers,
	}
	if l.ejected(now) {
		t := time.Unix(0, l.ejectedUntil.Load()).UTC()
		st.OutUntil = &t
	}
	return st
}

func (s *Server) adminOrigins(w http.ResponseWriter, _ *http.Request) {
	telemetry.WriteJSON(w, http.StatusOK, s.Origins())
}

// originCollector exposes the same to Prometheus.
type originCollector struct {
	s                                           *Server
	limit, refused, withheld, latency, out, use *prometheus.Desc
}

func newOriginCollector(s *Server) *originCollector {
	vip, srv := []string{"vip"}, []string{"vip", "server"}
	return &originCollector{
		s:        s,
		limit:    prometheus.NewDesc("gateway_origin_limit", "Requests at once that a VIP may have, as the gateway found.", vip, nil),
		refused:  prometheus.NewDesc("gateway_origin_refused_total", "Requests beyond that limit.", vip, nil),
		withheld: prometheus.NewDesc("gateway_retries_withheld_total", "Retries that the budget did not allow.", vip, nil),
		latency:  prometheus.NewDesc("gateway_server_latency_seconds", "Mean time to the header of a server's answer.", srv, nil),
		use:      prometheus.NewDesc("gateway_server_utilisation", "Share of a server in use, as it says.", srv, nil),
		out:      prometheus.NewDesc("gateway_server_out", "1 while a server is left out for its failures.", srv, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *originCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.limit, c.refused, c.withheld, c.latency, c.use, c.out} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *originCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, of ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, of...)
	}
	for _, o := range c.s.Origins() {
		gauge(c.limit, float64(o.Limit), o.VIP)
		ch <- prometheus.MustNewConstMetric(c.refused, prometheus.CounterValue, float64(o.Refused), o.VIP)
		ch <- prometheus.MustNewConstMetric(c.withheld, prometheus.CounterValue, float64(o.RetriesWithheld), o.VIP)
		// Two instances of one id would be one metric twice: the last one counts.
		last := map[string]ServerStatus{}
		for _, s := range o.Servers {
			last[cmp.Or(s.ID, s.Addr)] = s
		}
		for id, s := range last {
			gauge(c.latency, s.LatencyMS/1000, o.VIP, id)
			gauge(c.use, s.Utilisation, o.VIP, id)
			out := 0.0
			if s.OutUntil != nil {
				out = 1
			}
			gauge(c.out, out, o.VIP, id)
		}
	}
}
