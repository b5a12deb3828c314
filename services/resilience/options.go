package resilience

import (
	"cmp"
	"time"

	"github.com/flix-lab/flix/topology"
)

// Options of a command. A zero field takes the group's default, and there the
// package's.
type Options struct {
	// Timeout bounds one command, retries included; 0 in both command and
	// group leaves the caller's deadline as the only bound.
	Timeout time.Duration
	// MaxConcurrent is the size of the bulkhead; 64 by default.
	MaxConcurrent int
	// BreakerVolume is the least number of calls within the breaker's window
	// before it may open; 20 by default.
	BreakerVolume int
	// BreakerErrorPercent of failed calls opens the breaker; 50 by default.
	BreakerErrorPercent int
	// BreakerSleep is how long an open breaker waits before it lets one probe
	// through. The window that errors are counted over is twice as long,
	// which is Hystrix's proportion (5 s and 10 s).
	BreakerSleep time.Duration
	// Retries after a failure of kind Unavailable. Only for idempotent calls;
	// none by default, and a negative number is none too.
	Retries int
}

const (
	defaultMaxConcurrent = 64
	defaultVolume        = 20
	defaultErrorPercent  = 50
)

// or fills the zero fields of o from d.
func (o Options) or(d Options) Options {
	return Options{
		Timeout:             cmp.Or(o.Timeout, d.Timeout),
		MaxConcurrent:       cmp.Or(o.MaxConcurrent, d.MaxConcurrent),
		BreakerVolume:       cmp.Or(o.BreakerVolume, d.BreakerVolume),
		BreakerErrorPercent: min(100, cmp.Or(o.BreakerErrorPercent, d.BreakerErrorPercent)),
		BreakerSleep:        cmp.Or(o.BreakerSleep, d.BreakerSleep),
		Retries:             cmp.Or(o.Retries, d.Retries),
	}
}

func packageDefaults() Options {
	return Options{
		MaxConcurrent: defaultMaxConcurrent, BreakerVolume: defaultVolume, BreakerErrorPercent: defaultErrorPercent,
		BreakerSleep: topology.ProductionTiming().BreakerSleep.D(),
	}
}
