package sim

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/flix-lab/flix/lab/player/abr"
)

const traces = "../../../../fixtures/traces"

func readMovie(t testing.TB, name string) abr.Ladder {
	t.Helper()
	f, err := os.Open(filepath.Join(traces, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := ParseMovie(f, name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func readNetwork(t testing.TB, name string) []Period {
	t.Helper()
	f, err := os.Open(filepath.Join(traces, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := ParseNetwork(f, name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAgreesWithSabre compares every figure with what the published simulator
// prints. The figures were measured by running its src/sabre.py (commit
// 09b03bb, Python 3.11) on the files of fixtures/traces:
//
//	sabre.py -n NETWORK -m MOVIE -b SECONDS -a ALGORITHM [-ao]
//
// with its output format widened to twelve digits; variant o is with -ao, u is
// without.
func TestAgreesWithSabre(t *testing.T) {
	b, err := os.ReadFile("testdata/sabre.json")
	if err != nil {
		t.Fatal(err)
	}
	var runs []struct {
		Movie, Network, Algorithm, Variant string
		BufferS                            float64 `json:"buffer_s"`
		Result
	}
	if err := json.Unmarshal(b, &runs); err != nil {
		t.Fatal(err)
	}
	if len(runs) < 100 {
		t.Fatalf("only %d runs to compare with", len(runs))
	}
	for _, r := range runs {
		variant := abr.Calm
		if r.Variant == "u" {
			variant = abr.Eager
		}
		l := readMovie(t, r.Movie)
		algo, err := abr.New(r.Algorithm, l, r.BufferS*1000, variant)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Play(l, readNetwork(t, r.Network), r.BufferS*1000, algo)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []struct {
			name      string
			got, want float64
		}{
			{"utility", got.Utility, r.Utility}, {"rebuffer_ratio", got.RebufferRatio, r.RebufferRatio},
			{"rebuffer_events", got.RebufferEvents, r.RebufferEvents}, {"bitrate_kbps", got.BitrateKbps, r.BitrateKbps},
			{"change_kbps", got.ChangeKbps, r.ChangeKbps}, {"score", got.Score, r.Score},
		} {
			if math.Abs(f.got-f.want) > 1e-10*max(1, math.Abs(f.want)) {
				t.Errorf("%s over %s, %s (%s), %g s: %s is %.12f, Sabre has %.12f", r.Movie, r.Network, r.Algorithm, r.Variant, r.BufferS, f.name, f.got, f.want)
			}
		}
	}
}

// TestDefaultIsBest of all on these, by the mean, and nowhere far below the
// best of the published ones.
func TestDefaultIsBest(t *testing.T) {
	for _, movie := range []string{"movie-hd.json", "movie-4k.json"} {
		l := readMovie(t, movie)
		for _, bufferS := range []float64{25, 8} {
			mean := map[string]float64{}
			for _, network := range []string{"network-mobile.json", "network-cell.json", "network-steps.json", "network-line.json"} {
				trace := readNetwork(t, network)
				best, own := math.Inf(-1), 0.0
				for _, name := range []string{"default", "throughput", "bola", "bolae", "dynamic"} {
					algo, err := abr.New(name, l, bufferS*1000, abr.Calm)
					if err != nil {
						t.Fatal(err)
					}
					r, err := Play(l, trace, bufferS*1000, algo)
					if err != nil {
						t.Fatal(err)
					}
					mean[name] += r.Score / 4
					if name == "default" {
						own = r.Score
					} else {
						best = max(best, r.Score)
					}
				}
				if own < best-0.05*math.Abs(best) {
					t.Errorf("%s over %s, %g s: %.3f, the best other has %.3f", movie, network, bufferS, own, best)
				}
			}
			for name, m := range mean {
				if name != "default" && m >= mean["default"] {
					t.Errorf("%s, %g s: the mean of %s is %.3f, the default's %.3f", movie, bufferS, name, m, mean["default"])
				}
			}
		}
	}
}
