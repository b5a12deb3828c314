package resilience

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience/limit"
)

// Prefix of the run-time properties of commands: command.NAME.PROPERTY, where
// the name "default" stands for every command. The name that the properties
// have in Hystrix, hystrix.command.NAME.PROPERTY, is understood too.
const (
	Prefix         = "command."
	hystrixPrefix  = "hystrix."
	defaultCommand = "default"
)

// Property is a setting of a command that changes at run time.
type Property struct {
	// Name is Hystrix's where that has it, and Short a name to type.
	Name, Short string
	// Want says what a value looks like.
	Want string

	set func(*settings, string) error
	get func(*settings) string
}

// ForceOpen and ForceClosed are the properties that hold a breaker.
const (
	ForceOpen   = "circuitBreaker.forceOpen"
	ForceClosed = "circuitBreaker.forceClosed"
)

// Largest values taken, so that a slip of the hand does no harm.
const (
	maxCalls    = 1 << 20
	maxDuration = time.Hour
)

// Properties lists every property in the order they are shown in. Times are
// milliseconds, as in Hystrix, or durations such as 1.5s.
func Properties() []Property {
	return []Property{
		// One that is set counts, also where none was declared.
		duration("execution.isolation.thread.timeoutInMilliseconds", "timeout", func(s *settings) *time.Duration { return &s.timeout }).and(func(s *settings) { s.timeoutOff = false }),
		not("execution.timeout.enabled", "timeout_enabled", func(s *settings) *bool { return &s.timeoutOff }),
		number("execution.isolation.semaphore.maxConcurrentRequests", "max_concurrent", 1, maxCalls, func(s *settings) *int64 { return &s.maxConcurrent }),
		number("fallback.isolation.semaphore.maxConcurrentRequests", "max_fallbacks", 1, maxCalls, func(s *settings) *int64 { return &s.maxFallbacks }),
		not("fallback.enabled", "fallback", func(s *settings) *bool { return &s.fallbackOff }),
		not("circuitBreaker.enabled", "breaker", func(s *settings) *bool { return &s.breakerOff }),
		number("circuitBreaker.requestVolumeThreshold", "volume", 1, maxCalls, func(s *settings) *int64 { return &s.volume }),
		number("circuitBreaker.errorThresholdPercentage", "error_percent", 1, 100, func(s *settings) *int64 { return &s.errorPercent }),
		duration("circuitBreaker.sleepWindowInMilliseconds", "sleep", func(s *settings) *time.Duration { return &s.sleep }),
		number("circuitBreaker.halfOpenProbes", "probes", 1, 1000, func(s *settings) *int { return &s.probes }),
		yes(ForceOpen, "force_open", func(s *settings) *bool { return &s.forceOpen }),
		yes(ForceClosed, "force_closed", func(s *settings) *bool { return &s.forceClosed }),
		not("requestCache.enabled", "request_cache", func(s *settings) *bool { return &s.cacheOff }),
		number("retry.maxRetries", "retries", 0, 10, func(s *settings) *int { return &s.retries }),
		not("hedge.enabled", "hedge", func(s *settings) *bool { return &s.hedgeOff }),
		duration("hedge.delayInMilliseconds", "hedge_delay", func(s *settings) *time.Duration { return &s.hedgeDelay }),
		algorithm("limit.algorithm", "limit"),
		number("limit.initial", "limit_initial", 1, maxCalls, func(s *settings) *int { return &s.limit.Initial }),
		number("limit.min", "limit_min", 1, maxCalls, func(s *settings) *int { return &s.limit.Min }),
		number("limit.max", "limit_max", 1, maxCalls, func(s *settings) *int { return &s.limit.Max }),
	}
}

// FindProperty finds a property by its name or its short one.
func FindProperty(name string) (Property, error) {
	all := Properties()
	i := slices.IndexFunc(all, func(p Property) bool { return strings.EqualFold(p.Name, name) || p.Short == name })
	if i >= 0 {
		return all[i], nil
	}
	var short []string
	for _, p := range all {
		short = append(short, p.Short)
	}
	return Property{}, services.Errorf(services.Invalid, "a command has no property %q", name).WithRemedy("the properties are %s, or their names in Hystrix", strings.Join(short, ", "))
}

// and does more when the property is set.
func (p Property) and(more func(*settings)) Property {
	set := p.set
	p.set = func(s *settings, v string) error {
		err := set(s, v)
		if err == nil {
			more(s)
		}
		return err
	}
	return p
}

// Check refuses a value that the property cannot take. An empty one unsets it.
func (p Property) Check(value string) error {
	if value == "" {
		return nil
	}
	var s settings
	if err := p.set(&s, value); err != nil {
		return services.Errorf(services.Invalid, "%s: %q: want %s", p.Name, value, p.Want)
	}
	return nil
}

// CheckTogether refuses properties, by name, that no command can go by at once,
// though it can by each.
func CheckTogether(values map[string]string) error {
	var s settings
	for _, p := range Properties() {
		_ = p.set(&s, values[p.Name]) // what is not set, or wrong by itself, counts for nothing here
	}
	if s.limit.Algorithm == "" {
		return nil
	}
	_, err := limit.New(s.limits())
	return err
}

func number[N int | int64](name, short string, least, most N, at func(*settings) *N) Property {
	return Property{
		Name: name, Short: short, Want: "a number from " + strconv.FormatInt(int64(least), 10) + " to " + strconv.FormatInt(int64(most), 10),
		set: func(s *settings, v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < int64(least) || n > int64(most) {
				return errValue
			}
			*at(s) = N(n)
			return nil
		},
		get: func(s *settings) string { return strconv.FormatInt(int64(*at(s)), 10) },
	}
}

func duration(name, short string, at func(*settings) *time.Duration) Property {
	return Property{
		Name: name, Short: short, Want: "milliseconds or a duration such as 250ms, up to " + maxDuration.String(),
		set: func(s *settings, v string) error {
			d, err := time.ParseDuration(v)
			if ms, nerr := strconv.ParseInt(v, 10, 32); nerr == nil {
				d, err = time.Duration(ms)*time.Millisecond, nil
			}
			if err != nil || d <= 0 || d > maxDuration {
				return errValue
			}
			*at(s) = d
			return nil
		},
		get: func(s *settings) string {
			if d := *at(s); d%time.Millisecond != 0 {
				return d.String()
			}
			return strconv.FormatInt(at(s).Milliseconds(), 10)
		},
	}
}

// yes is a switch, not one whose field says the opposite.
func yes(name, short string, at func(*settings) *bool) Property { return flip(name, short, true, at) }
func not(name, short string, at func(*settings) *bool) Property { return flip(name, short, false, at) }

func flip(name, short string, on bool, at func(*settings) *bool) Property {
	return Property{
		Name: name, Short: short, Want: "true or false",
		set: func(s *settings, v string) error {
			b, err := strconv.ParseBool(v)
			switch {
			case v == "on":
				b = true
			case v == "off":
				b = false
			case err != nil:
				return errValue
			}
			*at(s) = b == on
			return nil
		},
		get: func(s *settings) string { return strconv.FormatBool(*at(s) == on) },
	}
}

func algorithm(name, short string) Property {
	return Property{
		Name: name, Short: short, Want: "none, " + strings.Join(limit.Algorithms(), ", "),
		set: func(s *settings, v string) error {
			switch {
			case v == "none":
				s.limit.Algorithm = ""
			case slices.Contains(limit.Algorithms(), v):
				s.limit.Algorithm = v
			default:
				return errValue
			}
			return nil
		},
		get: func(s *settings) string {
			if s.limit.Algorithm == "" {
				return "none"
			}
			return s.limit.Algorithm
		},
	}
}

// errValue is replaced by Check, which knows what was wanted.
var errValue = services.Errorf(services.Invalid, "a wrong value")
