package main

import "testing"

func TestProcessorsOfALightLoad(t *testing.T) {
	for _, tt := range []struct {
		players int
		speed   float64
		have    int
		want    int
	}{
		{1, 1, 2, 1},
		{1000, 1, 8, 1},
		{1001, 1, 8, 2},
		{500, 10, 8, 5},
		{100_000, 1, 8, 8},
		{1000, 0.5, 8, 1}, // a slow playback clock makes no start cheaper
	} {
		if got := lightProcessors(tt.players, tt.speed, tt.have); got != tt.want {
			t.Errorf("%d players at %gx, with %d processors: %d, want %d", tt.players, tt.speed, tt.have, got, tt.want)
		}
	}
}
