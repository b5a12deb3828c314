package topology

import (
	"fmt"
	"regexp"
	"time"
)

// UTCOffset is how far a region's clocks are ahead of UTC, as "+05:30" or
// "-08:00"; empty is not declared. Summer time is not known of: a declared
// region keeps one time.
type UTCOffset string

var utcOffset = regexp.MustCompile(`^([+-])(0\d|1[0-4]):([0-5]\d)$`)

// Get returns the offset; false if none is declared, or it is not one.
func (o UTCOffset) Get() (time.Duration, bool) {
	m := utcOffset.FindStringSubmatch(string(o))
	if m == nil {
		return 0, false
	}
	var h, min int
	// The expression has checked it: two digits each.
	_, _ = fmt.Sscanf(m[2]+" "+m[3], "%d %d", &h, &min)
	d := time.Duration(h)*time.Hour + time.Duration(min)*time.Minute
	if m[1] == "-" {
		d = -d
	}
	return d, true
}
