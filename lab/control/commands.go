package control

import (
	"cmp"
	"slices"
)

// CommandQuery picks resilience commands; "" is any.
type CommandQuery struct {
	Name     string `json:"name,omitempty"`
	Region   string `json:"region,omitempty"`
	Role     string `json:"role,omitempty"`
	Instance string `json:"instance,omitempty"`
}

// CommandRequest sets properties of the commands of a name, by their names in
// Hystrix or their short ones; an empty value takes one back.
type CommandRequest struct {
	CommandQuery
	Properties map[string]string `json:"properties"`
}

// Commands is the JSON of "flix command ls".
type Commands struct {
	// Commands by role, name and instance.
	Commands []Command `json:"commands"`
	// Silent are instances that do not answer.
	Silent []string `json:"silent,omitempty"`
}

// Command is one resilience command in one instance.
type Command struct {
	Name string `json:"name"`
	// Group is the dependency that the command calls.
	Group    string `json:"group"`
	Role     string `json:"role"`
	Region   string `json:"region"`
	Zone     string `json:"zone"`
	Instance string `json:"instance"`
	// Breaker is closed, open or half_open; Forced is what holds it: open,
	// closed or nothing.
	Breaker string `json:"breaker"`
	Forced  string `json:"forced,omitempty"`
	// InFlight calls are under way, of MaxConcurrent; Limit is the adaptive
	// limit, 0 if there is none.
	InFlight      int `json:"in_flight"`
	MaxConcurrent int `json:"max_concurrent"`
	Limit         int `json:"limit,omitempty"`
	// WindowMS is the rolling time of the counts, Rate the calls per second in
	// it, WindowCalls and WindowFailures what the breaker judges by.
	WindowMS       float64 `json:"window_ms"`
	Rate           float64 `json:"rate"`
	WindowCalls    int64   `json:"window_calls"`
	WindowFailures int64   `json:"window_failures"`
	ErrorPercent   float64 `json:"error_percent"`
	// P50MS to MaxMS are times of the call itself over six windows.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	MaxMS float64 `json:"max_ms"`
	// Window and Events count what became of the calls, within the window and
	// since the instance started.
	Window map[string]uint64 `json:"window"`
	Events map[string]uint64 `json:"events"`
	// Properties it goes by now, by their names in Hystrix.
	Properties map[string]string `json:"properties"`
}

// ByRole adds up the instances of a role: rates and counts, and of breakers and
// times the worst.
func (cs Commands) ByRole() []Command {
	worst := []string{"closed", "half_open", "open"}
	var out []Command
	for _, c := range cs.Commands {
		i := slices.IndexFunc(out, func(o Command) bool { return o.Role == c.Role && o.Name == c.Name })
		if i < 0 {
			w := map[string]uint64{}
			for k, v := range c.Window {
				w[k] = v
			}
			c.Window = w
			out = append(out, c)
			continue
		}
		o := &out[i]
		if slices.Index(worst, c.Breaker) > slices.Index(worst, o.Breaker) {
			o.Breaker = c.Breaker
		}
		o.Forced = cmp.Or(o.Forced, c.Forced)
		o.Rate += c.Rate
		o.WindowCalls, o.WindowFailures = o.WindowCalls+c.WindowCalls, o.WindowFailures+c.WindowFailures
		if o.WindowCalls > 0 {
			o.ErrorPercent = 100 * float64(o.WindowFailures) / float64(o.WindowCalls)
		}
		o.P50MS, o.P99MS, o.MaxMS = max(o.P50MS, c.P50MS), max(o.P99MS, c.P99MS), max(o.MaxMS, c.MaxMS)
		o.InFlight, o.MaxConcurrent, o.Limit = o.InFlight+c.InFlight, o.MaxConcurrent+c.MaxConcurrent, o.Limit+c.Limit
		for k, v := range c.Window {
			o.Window[k] += v
		}
	}
	return out
}
