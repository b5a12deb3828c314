package oca

import (
	"testing"
	"time"
)

func TestBeatsFallTogether(t *testing.T) {
	start := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct{ at, every, want time.Duration }{
		{0, time.Second, time.Second},
		{300 * time.Millisecond, time.Second, 700 * time.Millisecond},
		{999 * time.Millisecond, time.Second, 1001 * time.Millisecond},
		{300 * time.Millisecond, 500 * time.Millisecond, 700 * time.Millisecond},
		{200 * time.Millisecond, 500 * time.Millisecond, 300 * time.Millisecond},
		// A long interval is cut by less than a second: beats stay spread.
		{300 * time.Millisecond, 5 * time.Minute, 5*time.Minute - 300*time.Millisecond},
		{42*time.Second + 300*time.Millisecond, 5 * time.Minute, 5*time.Minute - 300*time.Millisecond},
	} {
		if got := untilBeat(start.Add(tc.at), tc.every); got != tc.want {
			t.Errorf("%v after the full second, every %v: the next beat is in %v, want %v", tc.at, tc.every, got, tc.want)
		}
	}
}
