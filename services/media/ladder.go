package media

import "math"

// Rung is one video quality to encode.
type Rung struct {
	ID            string
	Width, Height int
	Kbps          int // target average, kbit/s
}

// Bounds of the tallest rung.
const (
	maxLadderWidth  = 1920
	maxLadderHeight = 1080
	// minLadderHeight is the least height of a lower rung, unless the source
	// is smaller still.
	minLadderHeight = 90
)

// ladderShape is a rung's share of the source's height and its bits per pixel:
// small pictures need more of them.
var ladderShape = [...]struct {
	divide     int
	bitsPerPix float64
	min, max   float64 // kbit/s
}{
	{4, 0.080, 60, 150},
	{2, 0.060, 120, 1500},
	{1, 0.045, 240, 5000},
}

// Ladder chooses three rungs for a picture size and frame rate, lowest first.
// It never enlarges the picture; a source too small to be halved gets rungs of
// one size and different rates.
func Ladder(width, height int, fps float64) []Rung {
	scale := min(1, float64(maxLadderWidth)/float64(width), float64(maxLadderHeight)/float64(height))
	w, h := float64(width)*scale, float64(height)*scale
	least := 1.5 // each rung's rate is at least this multiple of the one below
	var out []Rung
	below := 0.0
	for i, s := range ladderShape {
		d := float64(s.divide)
		if h/d < minLadderHeight {
			d = max(1, h/minLadderHeight)
		}
		r := Rung{ID: RungID(i + 1), Width: even(w / d), Height: even(h / d)}
		rate := s.bitsPerPix * float64(r.Width*r.Height) * min(fps, 30) / 1000
		rate = max(min(max(rate, s.min), s.max), below*least)
		below = rate
		r.Kbps = int(math.Round(rate))
		out = append(out, r)
	}
	return out
}

// even rounds down to an even number of at least 16: chroma is subsampled by
// two, and encoders want a macroblock. The small addend undoes what scaling by
// a fraction loses.
func even(v float64) int { return max(16, 2*int(math.Floor(v/2+1e-6))) }

// FrameRate chooses the constant rate to encode at: the nearest one that
// gives a whole number of frames in a segment.
func FrameRate(fps float64) int {
	best := 0
	for _, r := range []int{12, 15, 24, 25, 30, 48, 50, 60} {
		if best == 0 || math.Abs(float64(r)-fps) < math.Abs(float64(best)-fps) {
			best = r
		}
	}
	return best
}
