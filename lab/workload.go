package lab

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// work is what an instance has answered since it started, by route or method:
// its histograms of time.
type work map[string]timed

type timed struct{ count, seconds float64 }

// workNames are the histograms that count requests: of gateways, of HTTP APIs
// and of gRPC services.
var workNames = [...]string{"gateway_request_seconds", "http_request_seconds", "rpc_server_seconds"}

// parseWork reads the histograms of requests from a page in Prometheus' text
// format; whatever else is there is skipped.
func parseWork(page []byte) work {
	w := work{}
	for line := range bytes.Lines(page) {
		text := strings.TrimSpace(string(line))
		for _, name := range workNames {
			rest, ok := strings.CutPrefix(text, name)
			if !ok {
				continue
			}
			part, rest, ok := strings.Cut(rest, "{")
			if !ok || part != "_sum" && part != "_count" {
				continue
			}
			end := strings.LastIndexByte(rest, '}')
			if end < 0 {
				continue
			}
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[end+1:]), 64)
			if err != nil || !(v >= 0) {
				continue
			}
			t := w[rest[:end]]
			if part == "_sum" {
				t.seconds = v
			} else {
				t.count = v
			}
			w[rest[:end]] = t
		}
	}
	return w
}

// usage is what an instance did for some time.
type usage struct {
	// rate of requests per second, and how many were under way on average, by
	// Little's law.
	rate, concurrency float64
	answered          float64
}

// used compares two looks at an instance. A method whose requests last longer
// than stream is a stream that stands open: it is no work. An instance that
// started anew in between did what it shows.
func used(before, after work, took, stream time.Duration) usage {
	var u usage
	for route, a := range after {
		b := before[route]
		if a.count < b.count || a.seconds < b.seconds {
			b = timed{}
		}
		n, s := a.count-b.count, a.seconds-b.seconds
		if n <= 0 || s/n > stream.Seconds() {
			continue
		}
		u.answered += n
		u.rate += n / took.Seconds()
		u.concurrency += s / took.Seconds()
	}
	return u
}

// workOf looks at an instance.
func (l *Lab) workOf(ctx context.Context, s runtime.Spec) (work, error) {
	page, err := l.metrics(ctx, s, workNames[:]...)
	if err != nil {
		return nil, err
	}
	return parseWork(page), nil
}

// metrics is a page of the families of these names that an instance has, in
// Prometheus' text format.
func (l *Lab) metrics(ctx context.Context, s runtime.Spec, names ...string) ([]byte, error) {
	var page []byte
	err := l.admin(ctx, s, http.MethodGet, "/metrics?"+url.Values{"name[]": names}.Encode(), nil, &page)
	return page, err
}

// works looks at every wanted instance of some roles in a region, side by side;
// those that do not answer are left out.
func (l *Lab) works(ctx context.Context, region string, roles ...topology.Role) (map[string]work, error) {
	i := l.current()
	out := map[string]work{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(16)
	for _, inst := range i.instances() {
		if inst.Region != region || i.Stopped[inst.ID] || !slices.Contains(roles, inst.Role) {
			continue
		}
		s, err := l.spec(i, inst)
		if err != nil {
			return nil, err
		}
		g.Go(func() error {
			w, err := l.workOf(ctx, s)
			if err == nil { // one that does not answer does nothing either
				mu.Lock()
				defer mu.Unlock()
				out[s.ID] = w
			}
			return nil
		})
	}
	return out, g.Wait()
}
