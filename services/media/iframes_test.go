package media

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// keyed is a fragment whose first sample has its place, its size and its flags.
func keyed(at uint64, flags int, sizes ...int) []byte {
	run := box("trun", 0x205, len(sizes), 0, flags)
	for _, n := range sizes {
		run = append(run, 0, 0, 0, byte(n))
	}
	run[3] = byte(len(run))
	moof := box("moof", box("mfhd", 0, 1), box("traf", box("tfhd", 0x20000, 1), box("tfdt", 0x01000000, at), run))
	i := bytes.Index(moof, []byte("trun")) + 12
	moof[i+3] = byte(len(moof) + boxHeader) // where the sample is: behind the header of mdat
	return slices.Concat(moof, box("mdat", strings.Repeat("x", 40)))
}

func TestLeadOfAFragment(t *testing.T) {
	first := keyed(0, 0, 10, 10, 10, 10)
	size := int64(len(first) - 40 + 10) // all but the samples, and the first of them
	for name, c := range map[string]struct {
		file []byte
		want int64
	}{
		"a picture of its own":     {first, size},
		"behind a leading box":     {slices.Concat(box("styp", "msdh"), first), size + 12},
		"one that needs others":    {keyed(0, nonSync, 10, 10, 10, 10), 0},
		"without a place or sizes": {testFragment(0, 4), 0},
	} {
		v := testTrack(KindVideo, 180, c.file)
		f, err := readTrack(bytes.NewReader(v), int64(len(v)))
		if err != nil || f.Fragments[0].Lead != c.want {
			t.Errorf("%s: %+v (%v), want a lead of %d", name, f.Fragments, err, c.want)
		}
	}
	v := testTrack(KindVideo, 180, keyed(0, 0, 41))
	if _, err := readTrack(bytes.NewReader(v), int64(len(v))); err == nil || !strings.Contains(err.Error(), "1 bytes behind its media data") {
		t.Errorf("a sample behind the end: %v", err)
	}
}

func TestIFramePlaylists(t *testing.T) {
	files := fstest.MapFS{
		"v1.mp4": {Data: testTrack(KindVideo, 180, keyed(0, 0, 10, 5, 5, 5), keyed(2000, 0, 20, 5))},
		"v2.mp4": {Data: testTrack(KindVideo, 360, keyed(0, 0, 10, 5, 5, 5), keyed(2000, nonSync, 20, 5))}, // one is not known
	}
	x, err := BuildIndex(files, "tt-x", 1, Source{ID: "v1", Path: "v1.mp4"}, Source{ID: "v2", Path: "v2.mp4"})
	if err != nil {
		t.Fatal(err)
	}
	master := string(x.HLSMaster())
	if strings.Count(master, "#EXT-X-I-FRAME-STREAM-INF:") != 1 || !strings.Contains(master, `CODECS="avc1.64001f",RESOLUTION=320x180,URI="v1.iframes.m3u8"`) {
		t.Errorf("%s", master)
	}
	if got := x.Files(); !slices.Contains(got, "v1.iframes.m3u8") || slices.Contains(got, "v2.iframes.m3u8") {
		t.Errorf("files %v", got)
	}
	all, err := x.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	list := string(all["v1.iframes.m3u8"])
	if strings.Count(list, "#EXTINF:") != 2 || !strings.Contains(list, "#EXT-X-I-FRAMES-ONLY\n") || !strings.Contains(list, "#EXT-X-MAP:") || strings.Contains(list, "INDEPENDENT") {
		t.Errorf("%s", list)
	}
	steered := string(x.SteeredHLS(twoPathways()))
	if strings.Count(steered, "#EXT-X-I-FRAME-STREAM-INF:") != 2 || strings.Count(steered, `,URI="http://oca-1-`) != 2 {
		t.Errorf("%s", steered)
	}
	x.Tracks[0].Segments[0].Key = x.Tracks[0].Segments[0].Size + 1
	if x.Validate() == nil {
		t.Error("a picture larger than its segment is valid")
	}
}

// Each range of the embedded titles, behind the initialisation segment, is one
// picture that ffprobe decodes, and the frame rate and channels are what it says.
func TestIFramesOfTheFixturesDecode(t *testing.T) {
	ffprobe, err := exec.LookPath("ffprobe")
	if err != nil {
		t.Skip("ffprobe is not on PATH")
	}
	probe := func(input []byte, args ...string) string {
		cmd := exec.Command(ffprobe, append([]string{"-v", "error", "-of", "csv=p=0"}, append(args, "-")...)...)
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("ffprobe: %v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for title, x := range fixtureIndexes(t) {
		dir := filepath.Join("..", "..", "fixtures", "titles", title)
		for _, tr := range x.Tracks {
			b, err := os.ReadFile(filepath.Join(dir, tr.Path))
			if err != nil {
				t.Fatal(err)
			}
			if tr.Kind == KindAudio {
				if got := probe(b, "-show_entries", "stream=channels"); got != "2" || tr.Channels != 2 {
					t.Errorf("%s %s: %d channels, ffprobe says %s", title, tr.ID, tr.Channels, got)
				}
				continue
			}
			if tr.FrameRate != 24 || !tr.hasIFrames() {
				t.Errorf("%s %s: %v frames per second", title, tr.ID, tr.FrameRate)
			}
			s := tr.Segments[len(tr.Segments)/2]
			one := slices.Concat(b[:tr.Init.Size], b[s.Offset:s.Offset+s.Key])
			if got := probe(one, "-read_intervals", "%+#1", "-show_entries", "frame=key_frame,pict_type"); !strings.HasPrefix(got, "1,I") {
				t.Errorf("%s %s: the picture of a range is %q", title, tr.ID, got)
			}
		}
	}
}
