package main

import (
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %g, want %g", c.in, got, c.want)
		}
	}
}

func TestReadPSS(t *testing.T) {
	kb, err := readPSS("5581-7ffe ---p 00000000 00:00 0 [rollup]\nRss:               5120 kB\nPss:               1234 kB\nPss_Dirty:          99 kB\n")
	if err != nil || kb != 1234 {
		t.Errorf("got %g, %v; want 1234", kb, err)
	}
	for _, text := range []string{"", "Rss: 1 kB\n", "Pss: many kB\n"} {
		if kb, err := readPSS(text); err == nil {
			t.Errorf("readPSS(%q) = %g, want an error", text, kb)
		}
	}
}

func TestReadTicks(t *testing.T) {
	ticks, err := readTicks("812 (a) b (c) S 1 812 812 0 -1 4194560 9 0 0 0 120 34 7 8 20 0 15 0 5512 1 2\n")
	if err != nil || ticks != 154 {
		t.Errorf("got %g, %v; want 154", ticks, err)
	}
	for _, text := range []string{"", "812 (a) S 1", "812 (a) S 1 812 812 0 -1 4194560 9 0 0 0 many 34 7"} {
		if ticks, err := readTicks(text); err == nil {
			t.Errorf("readTicks(%q) = %g, want an error", text, ticks)
		}
	}
}

func TestPrint(t *testing.T) {
	r := results{
		upWall: []float64{900, 1000, 1100}, ready: []float64{700, 800, 900}, pss: []float64{150}, reported: []float64{150},
		downWall: []float64{600}, help: []float64{10}, goHelp: []float64{5}, delay: []float64{30, 50}, idle: []float64{4, 5, 6}, https: []float64{2},
		steps: rank(map[string][]float64{"start": {100, 200, 300}, "fill": {400}}), instances: 96,
	}
	var b strings.Builder
	if err := r.print(&b, config{regions: 3}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"3 regions, 96 instances", "medians of 3 runs (play delay: of 2 plays)",
		"| 800.0 ms (700.0–900.0) | 1500 ms, met |", "| 600.0 ms (600.0–600.0) | 500 ms, missed |",
		"| 10.0 ms (10.0–10.0) | 50 ms, met | 5.0 ms: `go help` | 2.00 |", "| 40.0 ms (30.0–50.0) |",
		"| processor time of an idle lab, per minute | 5.0 s (4.0–6.0) |",
		"fill 400 ms, start 200 ms\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}
