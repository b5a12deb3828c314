package main

import (
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
)

func TestReleaseDate(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"90m":                       now.Add(90 * time.Minute),
		"0s":                        now,
		"2030-12-24":                time.Date(2030, 12, 24, 0, 0, 0, 0, time.UTC),
		"2030-12-24T18:00:00Z":      time.Date(2030, 12, 24, 18, 0, 0, 0, time.UTC),
		"2030-12-24T18:00:00+02:00": time.Date(2030, 12, 24, 16, 0, 0, 0, time.UTC),
		"2001-01-01":                time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), // it has come
	} {
		if got, err := releaseDate(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"-5m", "tomorrow", "12", "2030-13-01", "0001-01-01", "2030-12-24 18:00"} {
		if got, err := releaseDate(text, now); services.KindOf(err) != services.Invalid {
			t.Errorf("%q: %v, %v; want it refused", text, got, err)
		}
	}
}
