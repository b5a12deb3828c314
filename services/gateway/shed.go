package gateway

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services"
)

// Class says what a viewer loses when a request is not answered.
type Class uint8

// The classes, the dearest first.
const (
	// Critical: without it nothing plays.
	Critical Class = iota
	// Degraded: something plays, but worse, or is found less easily.
	Degraded
	// NonCritical: nobody notices at once.
	NonCritical
)

var classNames = [...]string{Critical: "critical", Degraded: "degraded", NonCritical: "non-critical"}

// String is the class's name.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// ParseClass reads a class's name; "" is Critical.
func ParseClass(text string) (Class, error) {
	if text == "" {
		return Critical, nil
	}
	for k, n := range classNames {
		if n == text || strings.ReplaceAll(n, "-", "_") == text {
			return Class(k), nil
		}
	}
	return Critical, services.Errorf(services.Invalid, "class %q is not one of %s", text, strings.Join(classNames[:], ", "))
}

// Each class has a third of the priorities, 0 (dearest) to 100.
const classWidth = 100.0 / 3

// Coefficients of the cut-off: the cubic that is 100 without overload and goes
// through the published points (35 %, 95), (80 %, 50) and (95 %, 10) of
// Netflix's prioritised load shedding (arthur.gonigberg.com, 15 November 2020):
// few are shed at first, and steeply more the nearer the collapse is.
const (
	cut1 = -27.07811194653315
	cut2 = 99.41520467836314
	cut3 = -179.61570593149588
)

// CutOff returns the priority from which on requests are shed at an overload
// of 0 to 1.
func CutOff(overload float64) float64 {
	x := min(max(overload, 0), 1)
	if math.IsNaN(x) {
		return 100
	}
	return min(max(100+x*(cut1+x*(cut2+x*cut3)), 0), 100)
}

// vipLoad is how many requests to an API are under way. Its guard, which counts
// those that have passed all filters, knows how many it may be.
type vipLoad struct {
	inFlight atomic.Int64
	guard    *guard
}

// shedder is the filter "load-shed".
type shedder struct {
	// forced is an overload in percent that is taken as given, or -1.
	forced atomic.Int64
	// start is the share of the limit, in percent, at which overload begins.
	start atomic.Int64
	// capacity is how many requests the gateway as a whole may have under way.
	capacity atomic.Int64
}

const (
	defaultShedStart    = 75
	defaultShedCapacity = 10000
)

func (s *shedder) options() []Option {
	return []Option{
		{Name: "start", Doc: "percent of the limits (requests at once per API, and of the gateway) at which overload begins", Default: "75", Set: func(v string) error {
			return setPercent(&s.start, v, defaultShedStart, 99)
		}},
		{Name: "capacity", Doc: "requests at once that the gateway as a whole is good for", Default: "10000", Set: func(v string) error {
			return setNumber(&s.capacity, v, defaultShedCapacity)
		}},
		{Name: "overload", Doc: "percent of overload to assume, for drills; empty to measure it", Default: "measured", Set: func(v string) error {
			return setPercent(&s.forced, v, -1, 100)
		}},
	}
}

func setPercent(to *atomic.Int64, value string, def, most int64) error {
	if value == "" {
		to.Store(def)
		return nil
	}
	n, ok := wholeNumber(strings.TrimSuffix(value, "%"))
	if !ok || n > most {
		return services.Errorf(services.Invalid, "%q is not a percentage from 0 to %d", value, most)
	}
	to.Store(n)
	return nil
}

// wholeNumber reads a number from 0 on.
func wholeNumber(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// overload tells how far beyond comfort a load is: 0 up to the start, 1 at the
// limit.
func (s *shedder) overload(used, limit int64) float64 {
	start := float64(s.start.Load()) / 100
	if limit <= 0 || used <= 0 {
		return 0
	}
	return min(max((float64(used)/float64(limit)-start)/(1-start), 0), 1)
}

// shed counts the request in and refuses it where others matter more.
func (s *Server) shed(ex *Exchange) error {
	ex.Class = classOf(ex)
	over := s.shedder.overload(int64(s.gate.count()), s.shedder.capacity.Load())
	if ex.Route != nil && ex.Route.compiled != nil {
		ex.vip = ex.Route.compiled.load
		n := ex.vip.inFlight.Add(1)
		ex.OnDone(leaveVIP)
		if limit := ex.vip.guard.adaptive.now(*s.settings.limit.Load(), s.settings.concurrency.Load()); n <= limit { // beyond it the origin's guard refuses, and says why
			over = max(over, s.shedder.overload(n-1, limit))
		}
	}
	if forced := s.shedder.forced.Load(); forced >= 0 {
		over = float64(forced) / 100
	}
	if over == 0 {
		return nil
	}
	cut := CutOff(over)
	priority := (float64(ex.Class) + rand.Float64()) * classWidth
	if priority < cut {
		return nil
	}
	s.metrics.shed[ex.Class].Inc()
	// Spread, so that what was refused together does not come back together.
	ex.retryAfter = time.Second + time.Duration(rand.Int64N(int64(4*time.Second)))
	return services.Errorf(services.Unavailable, "overloaded by %.0f %%: %s requests of priority %.0f and above are not taken", over*100, ex.Class, cut).
		WithReason(ReasonShed).WithRemedy("try again in a few seconds")
}

func leaveVIP(ex *Exchange) { ex.vip.inFlight.Add(-1) }

// classOf is the route's class, or a lower one that the client asks for with
// RFC 9218's Priority header: an urgency of 5 and more is background work, 4
// less than what a viewer waits for.
func classOf(ex *Exchange) Class {
	class := Critical
	if ex.Route != nil && ex.Route.compiled != nil {
		class = ex.Route.compiled.class
	}
	p := ex.Request.Header.Get("Priority")
	if p == "" {
		return class
	}
	if _, rest, ok := strings.Cut(p, "u="); ok && rest != "" {
		switch u := rest[0]; {
		case u >= '5' && u <= '7':
			return NonCritical
		case u == '4':
			return max(class, Degraded)
		}
	}
	return class
}
