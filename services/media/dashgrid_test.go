package media

import (
	"fmt"
	"strings"
	"testing"
)

// gridded is a track with segments of these durations.
func gridded(kind string, ms ...uint64) Track {
	t := Track{ID: kind[:1] + "1", Kind: kind, Path: kind[:1] + "1.mp4", Init: Segment{Size: 10}}
	at := t.Init.Size
	for _, d := range ms {
		t.Segments = append(t.Segments, Segment{Offset: at, Size: 100, DurationMS: d})
		at += 100
	}
	return t
}

// Stock players do not read a timeline in a list of segments: there is one only
// where a nominal duration would say something else.
func TestListsHaveANominalDuration(t *testing.T) {
	for name, c := range map[string]struct {
		ms       []uint64
		duration uint64
		nominal  bool
	}{
		"all alike":               {[]uint64{2000, 2000, 2000}, 6000, true},
		"a short last one":        {[]uint64{2000, 2000, 120}, 4120, true},
		"sound, by whole frames":  {[]uint64{2005, 1984, 2006, 1500}, 7500, true},
		"one only":                {[]uint64{700}, 700, true},
		"shorter ones":            {[]uint64{1000, 1000, 1000, 1000}, 4000, false},
		"a long one":              {[]uint64{3100, 2000}, 5100, false},
		"fewer than the duration": {[]uint64{2000, 2000}, 6000, false},
	} {
		for _, kind := range []string{KindVideo, KindAudio} {
			x := Index{Title: "tt", DurationMS: c.duration, Tracks: []Track{gridded(kind, c.ms...)}}
			mpd := string(x.DASH())
			if err := wellFormed([]byte(mpd)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if strings.Contains(mpd, `<SegmentList timescale="1000" duration="2000">`) != c.nominal || strings.Contains(mpd, "<SegmentTimeline>") == c.nominal {
				t.Errorf("%s: want a nominal duration: %v\n%s", name, c.nominal, mpd)
			}
			if n := strings.Count(mpd, "<SegmentURL "); n != len(c.ms) {
				t.Errorf("%s: %d segments", name, n)
			}
		}
	}
	for title, x := range fixtureIndexes(t) {
		if mpd := string(x.SteeredDASH(twoPathways())); strings.Contains(mpd, "SegmentTimeline") || strings.Count(mpd, fmt.Sprintf("duration=%q", "2000")) != len(x.Tracks) {
			t.Errorf("%s:\n%s", title, mpd)
		}
	}
}
