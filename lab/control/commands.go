package control

import (
	"cmp"
	"slices"
)

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
