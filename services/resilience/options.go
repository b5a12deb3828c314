package resilience

import (
	"cmp"
	"time"

	"github.com/flix-lab/flix/services/resilience/limit"
	"github.com/flix-lab/flix/topology"
)

// Options of a command. A zero field takes the group's default, and there the
// package's, which are Hystrix's.
type Options struct {
	// Group names the dependency: commands of one group stand together on a
	// dashboard and share a pool. The instance's role by default.
	Group string
	// Timeout bounds one command, retries included; 1 s by default. A negative
	// one leaves the caller's deadline as the only bound.
	Timeout time.Duration
	// MaxConcurrent is the size of the bulkhead; 10 by default.
	MaxConcurrent int
	// MaxFallbacks is how many fallbacks run at once; MaxConcurrent by default.
	MaxFallbacks int
	// BreakerVolume is the least number of calls within the breaker's window
	// before it may open; 20 by default.
	BreakerVolume int
	// BreakerErrorPercent of failed calls opens the breaker; 50 by default.
	BreakerErrorPercent int
	// BreakerSleep is how long an open breaker waits before it lets probes
	// through; 5 s by default.
	BreakerSleep time.Duration
	// BreakerProbes must be answered before the breaker closes; 1 by default.
	BreakerProbes int
	// Window is the time that calls are counted over, in ten buckets; twice
	// BreakerSleep by default, which is Hystrix's proportion (10 s and 5 s).
	// Times of calls are kept for six windows.
	Window time.Duration
	// Retries after a failure of kind Unavailable. Only for idempotent calls;
	// none by default, and a negative number is none too. Together they stay
	// below a fifth of the calls.
	Retries int
	// HedgeDelay is how long DoHedged waits before it asks a second time; 0 is
	// the 95th percentile of the command's own times.
	HedgeDelay time.Duration
	// Limit adapts the number of calls at once, within MaxConcurrent; none by
	// default.
	Limit limit.Config
	// PoolSize is how many calls DoApart runs at once for the whole group; 10
	// by default. The first command of the group decides.
	PoolSize int
}

// Hystrix's defaults (HystrixCommandProperties, HystrixThreadPoolProperties).
const (
	defaultTimeout       = time.Second
	defaultMaxConcurrent = 10
	defaultVolume        = 20
	defaultErrorPercent  = 50
	defaultProbes        = 1
	defaultPoolSize      = 10
	windowBuckets        = 10
	timeBuckets          = 6
	timeWindows          = 6 // a distribution covers so many windows
)

// or fills the zero fields of o from d.
func (o Options) or(d Options) Options {
	if o.Limit == (limit.Config{}) {
		o.Limit = d.Limit
	}
	return Options{
		Group:               cmp.Or(o.Group, d.Group),
		Timeout:             cmp.Or(o.Timeout, d.Timeout),
		MaxConcurrent:       cmp.Or(o.MaxConcurrent, d.MaxConcurrent),
		MaxFallbacks:        cmp.Or(o.MaxFallbacks, o.MaxConcurrent, d.MaxFallbacks, d.MaxConcurrent),
		BreakerVolume:       cmp.Or(o.BreakerVolume, d.BreakerVolume),
		BreakerErrorPercent: min(100, cmp.Or(o.BreakerErrorPercent, d.BreakerErrorPercent)),
		BreakerSleep:        cmp.Or(o.BreakerSleep, d.BreakerSleep),
		BreakerProbes:       cmp.Or(o.BreakerProbes, d.BreakerProbes),
		Window:              cmp.Or(o.Window, d.Window, 2*cmp.Or(o.BreakerSleep, d.BreakerSleep)),
		Retries:             cmp.Or(o.Retries, d.Retries),
		HedgeDelay:          cmp.Or(o.HedgeDelay, d.HedgeDelay),
		PoolSize:            cmp.Or(o.PoolSize, d.PoolSize),
		Limit:               o.Limit,
	}
}

func packageDefaults() Options {
	return Options{
		Timeout: defaultTimeout, MaxConcurrent: defaultMaxConcurrent, BreakerVolume: defaultVolume, BreakerErrorPercent: defaultErrorPercent,
		BreakerSleep: topology.ProductionTiming().BreakerSleep.D(), BreakerProbes: defaultProbes, PoolSize: defaultPoolSize,
	}
}
