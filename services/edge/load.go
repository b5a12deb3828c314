package edge

import (
	"net/http"
	"strconv"
	"sync/atomic"
)

// HeaderLoad tells whoever balances over a role's instances how much of the one
// that answered is in use. The form is that of ORCA (Open Request Cost
// Aggregation, "endpoint-load-metrics"): TEXT, then name=value.
const HeaderLoad = "Endpoint-Load-Metrics"

// atOnce is how many requests an instance is good for at once. What counts is
// only that it is the same for all instances of a role: a balancer compares.
const atOnce = 256

// load is how much of an instance is in use.
type load struct {
	inFlight atomic.Int64
	// more is what the role knows beyond its requests.
	more func() float64
}

// share is the greatest share of the instance's limits that is taken, the
// request that asks included; above 1 it is overloaded.
func (l *load) share() float64 {
	s := float64(l.inFlight.Load()) / atOnce
	if l.more != nil {
		s = max(s, l.more())
	}
	return s
}

// Load makes a role's own measure part of what its answers say of its load: 0 is
// idle, 1 full. It is called for every answer, before Serve.
func (e *Edge) Load(more func() float64) { e.load.more = more }

// handler counts requests in and says with each answer how much is in use when
// its header goes out: what a balancer hears first, it acts on first.
func (l *load) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.inFlight.Add(1)
		defer l.inFlight.Add(-1)
		next.ServeHTTP(&loadWriter{ResponseWriter: w, load: l}, r)
	})
}

// loadWriter adds the header at the last moment.
type loadWriter struct {
	http.ResponseWriter
	load *load
	told bool
}

func (w *loadWriter) tell() {
	if !w.told {
		w.told = true
		w.Header().Set(HeaderLoad, "TEXT application_utilization="+strconv.FormatFloat(w.load.share(), 'f', 3, 64))
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *loadWriter) WriteHeader(status int) {
	w.tell()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *loadWriter) Write(p []byte) (int, error) {
	w.tell()
	return w.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (w *loadWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
