package resilience

import (
	"time"
)

// State is one command as an operator sees it.
type State struct {
	Name string `json:"name"`
	// Group is the dependency.
	Group string `json:"group"`
	// Breaker is closed, open or half_open.
	Breaker string `json:"breaker"`
	// Forced is what the properties say: open, closed or "".
	Forced string `json:"forced,omitempty"`
	// InFlight counts the calls under way now, MaxConcurrent bounds them;
	// Limit is the adaptive limit, 0 if there is none.
	InFlight      int `json:"in_flight"`
	MaxConcurrent int `json:"max_concurrent"`
	Limit         int `json:"limit,omitempty"`
	// WindowMS is the rolling time that the following counts are of.
	WindowMS float64 `json:"window_ms"`
	// WindowCalls and WindowFailures are what the breaker judges by.
	WindowCalls    int64   `json:"window_calls"`
	WindowFailures int64   `json:"window_failures"`
	ErrorPercent   float64 `json:"error_percent"`
	// Rate is calls per second, refused ones included.
	Rate float64 `json:"rate"`
	// P50MS to MaxMS are times of the command's own call over six windows.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	MaxMS float64 `json:"max_ms"`
	// Window counts events within the window, Events since start, both by the
	// event of resilience_command_total.
	Window map[string]uint64 `json:"window"`
	Events map[string]uint64 `json:"events"`
	// Properties is what the command goes by now, by name.
	Properties map[string]string `json:"properties"`
}

// Snapshot returns the state of every command, by name. It changes nothing.
func (g *Group) Snapshot() []State {
	all := g.sorted()
	states := make([]State, 0, len(all))
	for _, c := range all {
		states = append(states, c.state())
	}
	return states
}

func (c *circuit) state() State {
	now, s := c.clock.now(), c.settings.Load()
	sum, times := c.window.sums(now), c.run.spread(now)
	calls, bad := c.window.health(now)
	st := State{
		Name: c.name, Group: c.options.Group, Breaker: stateNames[c.breaker.state.Load()], Forced: s.forced(),
		InFlight: int(c.inFlight.Load()), MaxConcurrent: int(s.maxConcurrent),
		WindowMS: ms(micros(c.window.span())), WindowCalls: calls, WindowFailures: bad,
		P50MS: ms(times.percentile(50)), P99MS: ms(times.percentile(99)), MaxMS: ms(times.most),
		Window: make(map[string]uint64, events), Events: make(map[string]uint64, events), Properties: map[string]string{},
	}
	if l := c.limiter.Load(); l != nil {
		st.Limit = l.Limit()
	}
	if calls > 0 {
		st.ErrorPercent = 100 * float64(bad) / float64(calls)
	}
	st.Rate = float64(sum.requests()) / min(c.window.span(), max(now, c.window.width)).Seconds()
	for i := range c.events {
		st.Window[event(i).String()] = uint64(sum.counts[i])
		st.Events[event(i).String()] = c.events[i].Load()
	}
	for _, p := range Properties() {
		st.Properties[p.Name] = p.get(s)
	}
	return st
}

// requests are calls of any fate, those that no guard let through included.
func (s *sums) requests() int64 {
	n := int64(0)
	for _, e := range []event{success, failure, timedOut, badRequest, shortCircuited, threadPoolRejected, semaphoreRejected, cancelled} {
		n += s.counts[e]
	}
	return n
}

func ms(us int64) float64 { return float64(us) / float64(time.Millisecond/time.Microsecond) }
