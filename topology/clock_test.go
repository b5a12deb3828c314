package topology

import (
	"testing"
	"time"
)

func TestUTCOffset(t *testing.T) {
	for text, want := range map[UTCOffset]time.Duration{
		"+00:00": 0, "-00:30": -30 * time.Minute, "+05:30": 5*time.Hour + 30*time.Minute, "-08:00": -8 * time.Hour, "+14:59": 14*time.Hour + 59*time.Minute,
	} {
		if got, ok := text.Get(); !ok || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []UTCOffset{"", "05:30", "+5:30", "+5:300", "+05.30", "+05:60", "+15:00", "+24:00", "Z", "+05:30 ", "±05:3", "+-5:30", "+0x:30"} {
		if got, ok := text.Get(); ok {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}
