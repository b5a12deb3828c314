package topology

import "time"

// UTCOffset is how far a region's clocks are ahead of UTC, as "+05:30" or
// "-08:00"; empty is not declared. Summer time is not known of: a declared
// region keeps one time.
type UTCOffset string

// Get returns the offset; false if none is declared, or it is not one.
func (o UTCOffset) Get() (time.Duration, bool) {
	if len(o) != len("+05:30") || o[0] != '+' && o[0] != '-' {
		return 0, false
	}
	at, err := time.Parse("15:04", string(o[1:]))
	if err != nil || at.Hour() > 14 {
		return 0, false
	}
	d := time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
	if o[0] == '-' {
		d = -d
	}
	return d, true
}
