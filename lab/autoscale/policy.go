// Package autoscale decides how many instances of a service there should be:
// from a target for what each may have to do, from a timetable, and from where
// the load is going.
//
// It only decides. It measures nothing, starts and stops nothing, and knows no
// clock but the one it is told.
package autoscale

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// Metrics that a policy can track.
const (
	// Concurrency is how many requests an instance has under way, on average.
	Concurrency = "concurrency"
	// Rate is how many requests an instance answers per second.
	Rate = "rate"
	// Utilisation is the concurrency as a share of what an instance may have
	// under way.
	Utilisation = "utilisation"
)

// Bounds of a policy.
const (
	maxCount    = 100
	maxWindows  = 48
	maxCooldown = 24 * time.Hour
)

// Policy of one service in one region.
type Policy struct {
	// Min and Max instances.
	Min int `json:"min"`
	Max int `json:"max"`
	// Metric to keep at Target for each instance; a Target of 0 tracks nothing.
	Metric string  `json:"metric"`
	Target float64 `json:"target"`
	// UpCooldown and DownCooldown are how long after a change in either
	// direction the next one waits; they are durations of nanoseconds in JSON.
	UpCooldown   time.Duration `json:"up_cooldown"`
	DownCooldown time.Duration `json:"down_cooldown"`
	// WarmUp is how long a new instance takes until what it does counts; until
	// then its like is not missed either.
	WarmUp time.Duration `json:"warm_up"`
	// Predict scales up for the load that a trend leads to in so much time; 0
	// does not.
	Predict time.Duration `json:"predict"`
	// Schedule raises the minimum at times of the day.
	Schedule []Window `json:"schedule,omitempty"`
	// Paused decides nothing.
	Paused bool `json:"paused,omitempty"`
}

// Window is a time of the day, local, with a minimum of its own. One that ends
// before it begins goes over midnight.
type Window struct {
	From  int `json:"from"` // minutes after midnight
	To    int `json:"to"`
	Count int `json:"count"`
}

// Defaults of a policy for a number of declared instances.
func Defaults(declared int) Policy {
	return Policy{Min: declared, Max: max(2*declared, declared+2), Metric: Concurrency, UpCooldown: 5 * time.Second, DownCooldown: 30 * time.Second, WarmUp: 3 * time.Second}
}

// Validate says what of a policy could not be.
func (p Policy) Validate() error {
	switch {
	case p.Min < 1 || p.Min > maxCount:
		return services.Errorf(services.Invalid, "--min: %d is not between 1 and %d", p.Min, maxCount).WithRemedy("write it like --min 2")
	case p.Max < p.Min || p.Max > maxCount:
		return services.Errorf(services.Invalid, "--max: %d is not between the minimum, %d, and %d", p.Max, p.Min, maxCount).WithRemedy("write it like --max %d, or lower --min", max(min(2*p.Min, maxCount), 1))
	case p.Metric != Concurrency && p.Metric != Rate && p.Metric != Utilisation:
		return services.Errorf(services.Invalid, "--metric: there is no metric %q", p.Metric).WithRemedy("use concurrency, rate or utilisation")
	case !(p.Target >= 0 && p.Target <= 1e9):
		return services.Errorf(services.Invalid, "--target: %g is not between 0 and 1e9", p.Target).WithRemedy("write it like --target 2, or 0 to follow the timetable only")
	case p.Metric == Utilisation && p.Target > 1:
		return services.Errorf(services.Invalid, "--target: a utilisation of %g is above 1", p.Target).WithRemedy("write a share, e.g. 0.6")
	case len(p.Schedule) > maxWindows:
		return services.Errorf(services.Invalid, "--schedule: %d windows are more than %d", len(p.Schedule), maxWindows).WithRemedy("put windows of one count together")
	}
	for name, d := range map[string]time.Duration{"--up-cooldown": p.UpCooldown, "--down-cooldown": p.DownCooldown, "--warm-up": p.WarmUp, "--predict": p.Predict} {
		if d < 0 || d > maxCooldown {
			return services.Errorf(services.Invalid, "%s: %s is not between 0 and %s", name, d, maxCooldown).WithRemedy("write it like %s 30s", name)
		}
	}
	for _, w := range p.Schedule {
		if w.From < 0 || w.From >= minutesOfDay || w.To < 0 || w.To > minutesOfDay || w.From == w.To || w.Count < 1 || w.Count > p.Max {
			return services.Errorf(services.Invalid, "--schedule: %s is no window with a count between 1 and the maximum, %d", w, p.Max).WithRemedy("write it like 08:00-20:00=%d, or raise --max", p.Max)
		}
	}
	return nil
}

const minutesOfDay = 24 * 60

// String writes a window as ParseSchedule reads it.
func (w Window) String() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d=%d", w.From/60, w.From%60, w.To/60, w.To%60, w.Count)
}

// ParseSchedule reads windows like "08:00-20:00=4,20:00-23:30=8". None are an
// empty list, which says so in JSON, too.
func ParseSchedule(s string) ([]Window, error) {
	out := []Window{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		w, ok := parseWindow(part)
		if !ok {
			return nil, services.Errorf(services.Invalid, "--schedule: %q is no window", part).WithRemedy("write like 08:00-20:00=4: from, to, and how many instances at least")
		}
		if out = append(out, w); len(out) > maxWindows {
			return nil, services.Errorf(services.Invalid, "--schedule: %d windows are more than %d", strings.Count(s, ",")+1, maxWindows).WithRemedy("put windows of one count together")
		}
	}
	return out, nil
}

func parseWindow(s string) (Window, bool) {
	span, count, ok := strings.Cut(s, "=")
	if !ok {
		return Window{}, false
	}
	from, to, ok := strings.Cut(span, "-")
	if !ok {
		return Window{}, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(count))
	f, okF := parseTime(from)
	t, okT := parseTime(to)
	return Window{From: f, To: t, Count: n}, err == nil && okF && okT && n > 0 && f < minutesOfDay && f != t
}

// parseTime reads HH:MM up to 24:00 as minutes after midnight.
func parseTime(s string) (int, bool) {
	h, m, ok := strings.Cut(strings.TrimSpace(s), ":")
	if !ok || len(h) != 2 || len(m) != 2 {
		return 0, false
	}
	hh, herr := strconv.ParseUint(h, 10, 8)
	mm, merr := strconv.ParseUint(m, 10, 8)
	t := int(hh)*60 + int(mm)
	return t, herr == nil && merr == nil && mm < 60 && t <= minutesOfDay
}

// holds says whether a time of the day is in the window.
func (w Window) holds(now time.Time) bool {
	at := now.Hour()*60 + now.Minute()
	if w.From < w.To {
		return at >= w.From && at < w.To
	}
	return at >= w.From || at < w.To
}
