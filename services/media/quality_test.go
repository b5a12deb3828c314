package media

import "testing"

func TestQualityOfRungs(t *testing.T) {
	tools := testTools(t)
	dir := t.TempDir()
	original := synthesise(t, tools, "original.mkv", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=3", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "5")
	e := Encoding{
		Input: original, Dir: dir, FPS: 25, Frames: 75, AudioKbps: 32, Preset: "ultrafast", Threads: 1,
		Ladder: []Rung{{ID: "v1", Width: 160, Height: 90, Kbps: 60}, {ID: "v2", Width: 320, Height: 180, Kbps: 200}, {ID: "v3", Width: 640, Height: 360, Kbps: 2500}},
	}
	if _, err := tools.Encode(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	got, err := tools.Quality(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || !(got["v1"] < got["v2"] && got["v2"] < got["v3"]) || got["v1"] < 0.2 || got["v3"] < 0.95 || got["v3"] > 1 {
		t.Errorf("%v, want three that rise, the last near 1", got)
	}
	again, err := tools.Quality(t.Context(), e)
	if err != nil || again["v2"] != got["v2"] {
		t.Errorf("measured again: %v, %v; was %v", again, err, got)
	}
	e.Dir = t.TempDir()
	if _, err := tools.Quality(t.Context(), e); err == nil {
		t.Error("rungs that are not there were measured")
	}
}

func TestSimilaritiesAreRead(t *testing.T) {
	said := "Stream mapping: [ssim; [ssim@v1 @ 0x55d] SSIM Y:0.871210 (8.9) U:0.93 (11) V:0.92 (11) All:0.889149 (9.5); " +
		"[ssim@v2 @ 0x55e] SSIM Y:1.000000 (inf) U:1 (inf) V:1 (inf) All:1.000000 (inf); [ssim@v3 @ 0x1] SSIM Y:nan All:nan (nan); [ssim@v4 @ 0x2] SSIM All:7.0"
	got := similarities(said)
	if len(got) != 2 || got["v1"] != 0.8891 || got["v2"] != 1 {
		t.Errorf("%v", got)
	}
}

func FuzzSimilarities(f *testing.F) {
	f.Add("[ssim@v1 @ 0x55d] SSIM Y:0.871210 (8.9) U:0.93 (11) All:0.889149 (9.5)")
	f.Add("[ssim@v1 @ ] SSIM All:1e309")
	f.Fuzz(func(t *testing.T, said string) {
		for id, v := range similarities(said) {
			if id == "" || !(v >= 0 && v <= 1) {
				t.Errorf("%q: %v", id, v)
			}
		}
	})
}
