package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

func chainOf(t *testing.T, filters ...Filter) *chain {
	t.Helper()
	c, err := newChain(slog.New(slog.DiscardHandler), filters)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// through runs a chain once.
func through(t *testing.T, c *chain) *Exchange {
	t.Helper()
	ex := &Exchange{ctx: t.Context(), Received: time.Now()}
	c.run(ex)
	return ex
}

var answerOK = Filter{Name: "ok", Phase: Endpoint, Run: func(ex *Exchange) error {
	ex.Response = Response{Status: 200, Header: NewHeader()}
	return nil
}}

func TestConcurrencyLimitOfAFilter(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	slow := Filter{Name: "slow", Phase: Inbound, Concurrency: 1, Run: func(*Exchange) error {
		entered <- struct{}{}
		<-release
		return nil
	}}
	c := chainOf(t, slow, answerOK)
	var wg sync.WaitGroup
	wg.Go(func() { through(t, c) })
	<-entered
	if ex := through(t, c); ex.Response.Status != 503 || services.ReasonOf(ex.Err) != ReasonFilterConcurrency || categorize(ex) != FailureLocalThrottledFilter || ex.retryAfter != momentLater {
		t.Errorf("one too many: status %d, %v, again after %s", ex.Response.Status, ex.Err, ex.retryAfter)
	}
	if err := c.set("slow", optionConcurrency, "2"); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { through(t, c) })
	<-entered // at 2 there is room for another
	close(release)
	wg.Wait()
	if f := c.byName["slow"].status(); f.InFlight != 0 || f.Rejected != 1 || f.Runs != 2 || f.Concurrency != 2 {
		t.Errorf("status %+v", f)
	}
	for _, bad := range []string{"-1", "x", "1.5"} {
		if err := c.set("slow", optionConcurrency, bad); services.KindOf(err) != services.Invalid {
			t.Errorf("concurrency=%s: %v", bad, err)
		}
	}
}

func TestOptionalFilterChangesNothing(t *testing.T) {
	for name, run := range map[string]func(*Exchange) error{
		"error": func(*Exchange) error { return errors.New("no") },
		"panic": func(*Exchange) error { panic("bug") },
	} {
		for _, phase := range []Phase{Inbound, Outbound} {
			after := 0
			c := chainOf(t, Filter{Name: "o", Phase: phase, Optional: true, Run: run}, answerOK,
				Filter{Name: "z", Phase: phase, Order: 1, Run: func(*Exchange) error { after++; return nil }})
			if ex := through(t, c); ex.Response.Status != 200 || ex.Err != nil || after != 1 {
				t.Errorf("%s %s: status %d, %v, %d filters after it", phase, name, ex.Response.Status, ex.Err, after)
			}
			if f := c.byName["o"].status(); f.Errors != 1 {
				t.Errorf("%s %s: %d errors counted", phase, name, f.Errors)
			}
		}
	}
	// Where it is full, the request does without it.
	c := chainOf(t, Filter{Name: "o", Optional: true, Concurrency: 1, Run: func(*Exchange) error { return nil }}, answerOK)
	c.byName["o"].inFlight.Store(1)
	if ex := through(t, c); ex.Response.Status != 200 || c.byName["o"].rejected.Load() != 1 {
		t.Errorf("full: status %d", ex.Response.Status)
	}
}

func TestAsynchronousFiltersRunBesideTheChain(t *testing.T) {
	var order []string
	later, earlier := make(chan struct{}), make(chan struct{})
	c := chainOf(t,
		Filter{Name: "a", Order: 1, Start: func(*Exchange) Task {
			return Task{
				Do:   func(context.Context) error { close(earlier); <-later; return nil }, // ends only after "b" ran
				Done: func(*Exchange) error { order = append(order, "a"); return nil },
			}
		}},
		Filter{Name: "b", Order: 2, Run: func(*Exchange) error { <-earlier; order = append(order, "b"); close(later); return nil }},
		Filter{Name: "none", Order: 3, Start: func(*Exchange) Task { return Task{} }},
		Filter{Name: "e", Phase: Endpoint, Run: func(ex *Exchange) error {
			order = append(order, "e")
			ex.Response = Response{Status: 200, Header: NewHeader()}
			return nil
		}},
		Filter{Name: "o", Phase: Outbound, Start: func(*Exchange) Task {
			return Task{Do: func(context.Context) error { return nil }, Done: func(ex *Exchange) error { order = append(order, "o"); return nil }}
		}})
	if ex := through(t, c); ex.Response.Status != 200 || !slices.Equal(order, []string{"b", "a", "e", "o"}) {
		t.Errorf("status %d, order %v", ex.Response.Status, order)
	}
	if f := c.byName["a"].status(); f.Runs != 1 || !f.Async || f.InFlight != 0 {
		t.Errorf("status %+v", f)
	}
}

func TestErrorsOfAsynchronousFilters(t *testing.T) {
	no := services.Errorf(services.Denied, "no")
	do := func(f func(context.Context) error) func(*Exchange) Task {
		return func(*Exchange) Task { return Task{Do: f} }
	}
	var cancelled atomic.Bool
	untilCancelled := do(func(ctx context.Context) error { <-ctx.Done(); cancelled.Store(true); return ctx.Err() })
	for name, tt := range map[string]struct {
		filters []Filter
		status  int
		reason  string
	}{
		"error": {[]Filter{{Name: "a", Start: do(func(context.Context) error { return no })}}, 403, ""},
		"panic": {[]Filter{{Name: "a", Start: do(func(context.Context) error { panic("bug") })}}, 500, ""},
		"panic when done": {[]Filter{{Name: "a", Start: func(*Exchange) Task {
			return Task{Do: func(context.Context) error { return nil }, Done: func(*Exchange) error { panic("bug") }}
		}}}, 500, ""},
		"panic when it starts": {[]Filter{{Name: "a", Start: func(*Exchange) Task { panic("bug") }}}, 500, ""},
		"too long":             {[]Filter{{Name: "a", Timeout: time.Millisecond, Start: untilCancelled}}, 504, ReasonTimeout},
		"another failed":       {[]Filter{{Name: "a", Start: untilCancelled}, {Name: "b", Run: func(*Exchange) error { return no }}}, 403, ""},
		"optional":             {[]Filter{{Name: "a", Optional: true, Start: do(func(context.Context) error { return no })}}, 200, ""},
		"outbound":             {[]Filter{{Name: "a", Phase: Outbound, Start: do(func(context.Context) error { return no })}}, 403, ""},
		"full": {[]Filter{{Name: "a", Concurrency: 1, Start: do(func(context.Context) error { return nil })},
			{Name: "b", Concurrency: 1, Start: do(func(context.Context) error { return nil })}}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cancelled.Store(false)
			c := chainOf(t, append(tt.filters, answerOK)...)
			ex := through(t, c)
			if ex.Response.Status != tt.status || services.ReasonOf(ex.Err) != tt.reason {
				t.Errorf("status %d, %v; want %d %q", ex.Response.Status, ex.Err, tt.status, tt.reason)
			}
			if (name == "too long" || name == "another failed") && !cancelled.Load() {
				t.Error("the chain did not wait for a task that it told to end")
			}
			for _, st := range c.all {
				if n := st.inFlight.Load(); n != 0 {
					t.Errorf("%d requests are left in %s", n, st.Name)
				}
			}
		})
	}
}

// TestPanicGivesThePlaceBack: a filter that panics at its limit is not full for
// ever.
func TestPanicGivesThePlaceBack(t *testing.T) {
	c := chainOf(t, Filter{Name: "p", Concurrency: 1, Run: func(*Exchange) error { panic("bug") }}, answerOK)
	for range 3 {
		if ex := through(t, c); ex.Response.Status != 500 {
			t.Fatalf("status %d, %v", ex.Response.Status, ex.Err)
		}
	}
	if n := c.byName["p"].inFlight.Load(); n != 0 {
		t.Errorf("%d are in it", n)
	}
}

func TestChainRefusesMoreBadFilters(t *testing.T) {
	run, start := func(*Exchange) error { return nil }, func(*Exchange) Task { return Task{} }
	for name, fs := range map[string][]Filter{
		"both":     {{Name: "a", Run: run, Start: start}},
		"endpoint": {{Name: "a", Phase: Endpoint, Start: start}},
	} {
		if _, err := newChain(nil, fs); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := make([]Filter, maxFilters+1)
	for k := range many {
		many[k] = Filter{Name: itoa(k), Run: run}
	}
	if _, err := newChain(nil, many); services.KindOf(err) != services.Invalid {
		t.Errorf("too many: %v", err)
	}
}

func TestPassport(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	ex := e.request("/play/x")
	e.chain.run(ex)
	text := ex.Passport.Text(time.UnixMilli(1000), time.UnixMilli(1000).Add(time.Hour))
	last := -1
	for _, state := range []string{"CurrentPassport {start_ms=1000, [+0=IN_REQ_HEADERS_RECEIVED, ", "=FILTERS_INBOUND_START, ", "=FILTERS_INBOUND_END, ", "=FILTERS_OUTBOUND_START, ", "=FILTERS_OUTBOUND_END, ", "+3600000000000=NOW]}"} {
		at := indexFrom(text, state, last+1)
		if at < 0 {
			t.Errorf("%q is not in its place in %s", state, text)
		}
		last = at
	}
	var p Passport
	for range maxStamps + 5 {
		p.add(filtersInboundEnd, time.Second)
	}
	if p.n != maxStamps {
		t.Errorf("%d stamps are kept", p.n)
	}
	if got := tag(200, 1<<60); got.number() != 200 || got.duration() != 1<<56-1 {
		t.Errorf("%d %d", got.number(), got.duration())
	}
}

// Any one of the filters may be off, and every request has the answer that the
// others make of it.
func TestEachFilterOff(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	c := e.client(eastClient, false)
	for _, st := range e.chain.all {
		if err := e.chain.disable(st.Name, true); err != nil {
			t.Fatal(err)
		}
		posted := http.StatusOK
		switch st.Name {
		case "origin":
			posted = http.StatusInternalServerError
		case "route":
			posted = http.StatusNotFound
		}
		a := ask(t, c, "POST", "/signup/x", "a body")
		if a.StatusCode != posted || posted == http.StatusOK && a.seen(t).Body != "a body" {
			t.Errorf("without %s: a POST gets status %d, %s", st.Name, a.StatusCode, a.body)
		}
		for name, values := range a.Header {
			if values[0] == "" {
				t.Errorf("without %s: the answer's %s is empty", st.Name, name)
			}
		}
		if a.StatusCode == http.StatusOK {
			for name, values := range a.seen(t).Header {
				if values[0] == "" || strings.Contains(values[0], "invalid") {
					t.Errorf("without %s: the API reads %s: %q", st.Name, name, values)
				}
			}
		}
		if a := ask(t, c, "GET", "/nowhere", ""); a.StatusCode != http.StatusNotFound || a.problem(t).Reason != ReasonNoRoute {
			t.Errorf("without %s: no route gets status %d, %s", st.Name, a.StatusCode, a.body)
		}
		if err := e.chain.disable(st.Name, false); err != nil {
			t.Fatal(err)
		}
	}
	// A body beyond the limit is refused without the filter that looks at its length.
	if err := e.chain.disable("limits", true); err != nil {
		t.Fatal(err)
	}
	e.set(PropertyMaxBody, "5")
	eventually(t, "the limit holds", func() bool { return e.settings.maxBody.Load() == 5 })
	if a := ask(t, c, "POST", "/signup/x", "a body"); a.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: status %d, %s", a.StatusCode, a.body)
	}
}

func indexFrom(s, sub string, from int) int {
	for k := from; k+len(sub) <= len(s); k++ {
		if s[k:k+len(sub)] == sub {
			return k
		}
	}
	return -1
}

// request is a GET of a member's, as the codec would hand it over.
func (e *edge) request(path string, header ...string) *Exchange {
	return &Exchange{ctx: e.w.t.Context(), Received: time.Now(), Request: Request{
		Method: "GET", Host: edgeHost, Path: path, TLS: true, Header: NewHeader(append([]string{"Authorization", e.w.member("m-1")}, header...)...),
	}}
}
