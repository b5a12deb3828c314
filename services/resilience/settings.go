package resilience

import (
	"time"

	"github.com/flix-lab/flix/services/resilience/limit"
)

// settings are what a command goes by now. They are replaced whole.
type settings struct {
	timeout                     time.Duration
	timeoutOff                  bool
	maxConcurrent, maxFallbacks int64
	breakerOff                  bool
	volume, errorPercent        int64
	sleep                       time.Duration
	probes                      int
	forceOpen, forceClosed      bool
	fallbackOff, cacheOff       bool
	retries                     int
	hedgeDelay                  time.Duration
	hedgeOff                    bool
	limit                       limit.Config
}

// settings of the options, which are complete.
func (o Options) settings() settings {
	return settings{
		timeout: max(0, o.Timeout), timeoutOff: o.Timeout <= 0,
		maxConcurrent: int64(max(1, o.MaxConcurrent)), maxFallbacks: int64(max(1, o.MaxFallbacks)),
		volume: int64(max(1, o.BreakerVolume)), errorPercent: int64(max(1, o.BreakerErrorPercent)), sleep: o.BreakerSleep, probes: max(1, o.BreakerProbes),
		retries: max(0, o.Retries), hedgeDelay: max(0, o.HedgeDelay), limit: o.Limit,
	}
}

// bounded says whether the command has a time of its own.
func (s *settings) bounded() bool { return s.timeout > 0 && !s.timeoutOff }

// limits is what the adaptive limit moves between.
func (s *settings) limits() limit.Config {
	c := s.limit
	if c.Max == 0 { // the bulkhead is the most there may be
		c.Max = max(int(s.maxConcurrent), c.Min, c.Initial)
	}
	return c
}

func (s *settings) forced() string {
	switch {
	case s.forceOpen: // it wins, as in Hystrix
		return "open"
	case s.forceClosed:
		return "closed"
	}
	return ""
}
