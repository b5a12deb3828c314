package player

import (
	"math"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/media"
)

// The mean similarity is weighted by time, and told only when that of every rung
// played is known.
func TestMeanSSIM(t *testing.T) {
	low, high := media.Track{ID: "v1", Kbps: 100, SSIM: 0.8}, media.Track{ID: "v2", Kbps: 500, SSIM: 0.95}
	b := &book{clock: playout{speed: 1}, r: newReport()}
	b.played(low, 2*time.Second)
	b.played(high, 2*time.Second)
	b.played(high, 2*time.Second)
	r := b.close(time.Now())
	if math.Abs(r.MeanSSIM-0.9) > 1e-9 || len(r.Rungs) != 2 || r.Rungs[0].SSIM != 0.8 || r.Rungs[1].SSIM != 0.95 {
		t.Errorf("mean %g of %+v, want 0.9", r.MeanSSIM, r.Rungs)
	}
	b.played(media.Track{ID: "v3", Kbps: 900}, time.Second)
	if r := b.close(time.Now()); r.MeanSSIM != 0 || r.Rungs[2].SSIM != 0 {
		t.Errorf("mean %g with a rung of which nothing is known", r.MeanSSIM)
	}
}
