package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"reflect"
	"strings"
	"sync"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// prefixNear begins the path of a request of a viewer near a region:
// /near/eu-west/discovery/rows. Everything a manifest refers to lies below it,
// too.
const prefixNear = "/near/"

// near takes the region off a path.
func near(path string) (region, rest string) {
	below, ok := strings.CutPrefix(path, prefixNear)
	if !ok {
		return "", path
	}
	region, rest, _ = strings.Cut(below, "/")
	return region, "/" + rest
}

// ways pass requests on to the public API: one way for each region that
// somebody watches from. They are made anew when the lab was. Safe for
// concurrent use.
type ways struct {
	c     Config
	proxy *httputil.ReverseProxy

	mu     sync.Mutex
	world  control.World
	open   map[string]API // by region
	closed bool
}

func newWays(c Config) *ways {
	w := &ways{c: c, open: map[string]API{}}
	w.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			_, r.Out.URL.Path = near(r.In.URL.Path)
			r.Out.URL.RawPath = ""
			// They speak of this page; to the API it is a client like any other.
			for _, h := range []string{"Origin", "Referer", "Cookie"} {
				r.Out.Header.Del(h)
			}
		},
		Transport: w, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				c.Warn("%s %s: %v\n", r.Method, shown(r.URL.Path), err)
			}
			refuse(rw, err)
		},
		// Pages must not keep what was true a moment ago.
		ModifyResponse: func(r *http.Response) error {
			if r.Header.Get("Cache-Control") == "" {
				r.Header.Set("Cache-Control", "no-store")
			}
			return nil
		},
	}
	return w
}

// shown leaves tokens out of a path.
func shown(path string) string {
	if before, _, ok := strings.Cut(path, "/play/stock/"); ok {
		return before + "/play/stock/…"
	}
	return path
}

// ServeHTTP implements http.Handler.
func (w *ways) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	region, _ := near(r.URL.Path)
	w.proxy.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), regionKey{}, region)))
}

// RoundTrip implements http.RoundTripper for what the proxy sends. The region
// is that of the browser's request.
func (w *ways) RoundTrip(r *http.Request) (*http.Response, error) {
	region, _ := r.Context().Value(regionKey{}).(string)
	way, err := w.way(region)
	if err != nil {
		return nil, err
	}
	return way.RoundTrip(r)
}

// regionKey is the context key of the region that a request's viewer is near.
type regionKey struct{}

// way returns the open way of a region, or opens it.
func (w *ways) way(region string) (API, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if way, ok := w.open[region]; ok {
		return way, nil
	}
	if w.closed {
		return nil, services.Errorf(services.Unavailable, "the page's server is ending")
	}
	if _, ok := w.world.Topology.Region(region); region != "" && !ok {
		return nil, services.Errorf(services.NotFound, "no region is called %.64q", region).WithRemedy("the lab's regions are %s", strings.Join(w.world.Topology.RegionNames(), ", "))
	}
	way, err := w.c.Connect(w.world, region)
	if err != nil {
		return nil, err
	}
	w.open[region] = way
	return way, nil
}

// now is the world as it was last seen.
func (w *ways) now() control.World {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.world
}

// refresh looks at the world; ways into one that is no more are closed.
func (w *ways) refresh(ctx context.Context) error {
	world, err := w.c.Lab.World(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	same := reflect.DeepEqual(w.world, world)
	var old map[string]API
	if !same {
		w.world, old, w.open = world, w.open, map[string]API{}
	}
	w.mu.Unlock()
	for _, way := range old {
		way.Close()
	}
	return nil
}

func (w *ways) close() {
	w.mu.Lock()
	w.closed = true
	old := w.open
	w.open = map[string]API{}
	w.mu.Unlock()
	for _, way := range old {
		way.Close()
	}
}
