package lab

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// latencies are cumulative counts of requests by the upper bound of their time
// in seconds, as in a Prometheus histogram.
type latencies map[float64]float64

// latencyName is the histogram of the time of requests at a gateway.
const latencyName = "gateway_request_seconds"

// parse adds a page's buckets, all routes together.
func (l latencies) parse(page []byte) {
	for line := range bytes.Lines(page) {
		rest, ok := strings.CutPrefix(string(line), latencyName+"_bucket{")
		if !ok {
			continue
		}
		labels, value, ok := strings.Cut(rest, "}")
		if !ok {
			continue
		}
		_, le, ok := strings.Cut(labels, `le="`)
		if !ok {
			continue
		}
		le, _, _ = strings.Cut(le, `"`)
		bound, err := strconv.ParseFloat(le, 64)
		n, nerr := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || nerr != nil || math.IsNaN(bound) || !(n >= 0) || math.IsInf(n, 0) {
			continue
		}
		l[bound] += n
	}
}

// quantile is the time in ms that a share q of the requests since before did not
// exceed, between bounds in proportion; 0 without any.
func (l latencies) quantile(q float64, before latencies) float64 {
	bounds := make([]float64, 0, len(l))
	for b := range l {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	if len(bounds) == 0 {
		return 0
	}
	count := func(b float64) float64 { return max(l[b]-before[b], 0) }
	total := count(bounds[len(bounds)-1])
	if total <= 0 {
		return 0
	}
	rank, below, seen := q*total, 0.0, 0.0
	for _, b := range bounds {
		n := count(b)
		if n >= rank {
			if math.IsInf(b, 0) {
				return below * 1000
			}
			return (below + (b-below)*(rank-seen)/max(n-seen, 1)) * 1000
		}
		if !math.IsInf(b, 0) {
			below = b
		}
		seen = n
	}
	return below * 1000
}

// edgeLatencies sum up the gateways of some regions; those that do not answer
// are left out.
func (l *Lab) edgeLatencies(ctx context.Context, regions []string) latencies {
	out := latencies{}
	var mu sync.Mutex
	for _, region := range regions {
		if l.isDown(region) {
			continue
		}
		_ = l.each(region, topology.RoleGateway, func(s runtime.Spec) error {
			page, err := l.metrics(ctx, s, latencyName)
			if err != nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			out.parse(page)
			return nil
		}) // only what it could not declare fails, and that is nothing to count
	}
	return out
}
