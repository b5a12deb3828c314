package evcache

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sidecar"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// askTimeout bounds one question to memcached.
	askTimeout = time.Second
	// maxStats bounds the lines of an answer to "stats".
	maxStats = 512
)

// SidecarConfig is what the unit beside a real memcached needs.
type SidecarConfig struct {
	// Target is memcached's host:port.
	Target string
	// Dial opens connections to it; nil for a plain dialer.
	Dial services.DialFunc
	// OnHealth is called when memcached begins and ceases to answer; may be
	// nil. See sidecar.Config.Changed.
	OnHealth func(healthy bool)
	// Tel are the instance's instruments.
	Tel *telemetry.Telemetry
}

// Sidecar stands beside a memcached that knows nothing of the lab: it watches
// it and shows its "stats" under the names of Server's metrics. Clients talk
// to memcached itself. It implements services.Unit.
type Sidecar struct {
	cfg   SidecarConfig
	watch *sidecar.Watch
}

// NewSidecar makes a sidecar; it asks memcached nothing yet.
func NewSidecar(c SidecarConfig) (*Sidecar, error) {
	if c.Target == "" || c.Tel == nil {
		return nil, services.Errorf(services.Invalid, "evcache.NewSidecar: Target and Tel are required")
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	s := &Sidecar{cfg: c}
	var err error
	if s.watch, err = sidecar.New(sidecar.Config{Store: "memcached", Probe: s.probe, Timeout: askTimeout, Changed: c.OnHealth, Tel: c.Tel}); err != nil {
		return nil, err
	}
	c.Tel.Metrics.MustRegister(s)
	return s, nil
}

// Healthy says whether memcached answers.
func (s *Sidecar) Healthy() bool { return s.watch.Healthy() }

// Ready returns when memcached answers, or fails when ctx ends before.
func (s *Sidecar) Ready(ctx context.Context) error { return s.watch.Wait(ctx) }

// Serve watches memcached until ctx ends.
func (s *Sidecar) Serve(ctx context.Context) error {
	s.watch.Run(ctx)
	return nil
}

// probe asks for the version. A memcached that has no connection to spare
// refuses that, too, and serves nobody.
func (s *Sidecar) probe(ctx context.Context) error {
	return s.ask(ctx, "version\r\n", func(r *bufio.Reader) error {
		line, err := readLine(r)
		if err == nil && !strings.HasPrefix(line, "VERSION ") {
			err = fmt.Errorf("unexpected answer %.100q", line)
		}
		return err
	})
}

// stats reads memcached's general-purpose statistics.
func (s *Sidecar) stats(ctx context.Context) (map[string]string, error) {
	var out map[string]string
	err := s.ask(ctx, "stats\r\n", func(r *bufio.Reader) (err error) {
		out, err = readStats(r)
		return err
	})
	return out, err
}

// readStats reads the answer to "stats".
func readStats(r *bufio.Reader) (map[string]string, error) {
	out := map[string]string{}
	for range maxStats {
		line, err := readLine(r)
		if err != nil || line == "END" {
			return out, err
		}
		f := strings.SplitN(line, " ", 3)
		if len(f) != 3 || f[0] != "STAT" {
			return out, fmt.Errorf("unexpected answer %.100q", line)
		}
		out[f[1]] = f[2]
	}
	return out, fmt.Errorf("more than %d statistics", maxStats)
}

// ask sends a command over a connection of its own: a question about health
// must not find an old connection alive.
func (s *Sidecar) ask(ctx context.Context, command string, read func(*bufio.Reader) error) error {
	c, err := s.cfg.Dial(ctx, "tcp", s.cfg.Target)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // nothing is in flight
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if _, err := c.Write([]byte(command)); err != nil {
		return err
	}
	return read(bufio.NewReaderSize(c, connBuffer))
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	return strings.TrimRight(string(line), "\r\n"), err
}

// shown is one statistic that Server shows as a metric, too.
type shown struct {
	stat, metric, help string
	kind               prometheus.ValueType
}

func allShown() []shown {
	return []shown{
		{"cmd_get", "memcached_cmd_get_total", "Retrieval commands.", prometheus.CounterValue},
		{"cmd_set", "memcached_cmd_set_total", "Storage commands.", prometheus.CounterValue},
		{"get_hits", "memcached_get_hits_total", "Keys found.", prometheus.CounterValue},
		{"get_misses", "memcached_get_misses_total", "Keys not found.", prometheus.CounterValue},
		{"evictions", "memcached_evictions_total", "Items removed to make room.", prometheus.CounterValue},
		{"curr_items", "memcached_curr_items", "Items held.", prometheus.GaugeValue},
		{"bytes", "memcached_bytes", "Bytes of the items held.", prometheus.GaugeValue},
		{"limit_maxbytes", "memcached_limit_maxbytes", "Bound of the items' bytes.", prometheus.GaugeValue},
		{"curr_connections", "memcached_curr_connections", "Open connections.", prometheus.GaugeValue},
	}
}

// Describe is prometheus.Collector's.
func (s *Sidecar) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range allShown() {
		ch <- prometheus.NewDesc(m.metric, m.help, nil, nil)
	}
}

// Collect asks memcached. While it does not answer there are no figures, and
// store_up is 0.
func (s *Sidecar) Collect(ch chan<- prometheus.Metric) {
	if !s.watch.Healthy() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	stats, err := s.stats(ctx)
	if err != nil {
		s.cfg.Tel.Log.Warn("memcached's statistics cannot be read", "error", err)
		return
	}
	for _, m := range allShown() {
		v, err := strconv.ParseFloat(stats[m.stat], 64)
		if err != nil {
			s.cfg.Tel.Log.Warn("memcached's statistics lack a figure", "stat", m.stat, "value", stats[m.stat])
			continue
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.metric, m.help, nil, nil), m.kind, v)
	}
}
