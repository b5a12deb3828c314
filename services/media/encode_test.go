package media

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testTools finds ffmpeg, or skips the test unless it is required.
func testTools(t testing.TB) Tools {
	t.Helper()
	path, err := exec.LookPath("ffmpeg")
	if err != nil {
		if os.Getenv("FLIX_REQUIRE_FFMPEG") == "1" {
			t.Fatal("ffmpeg is required (FLIX_REQUIRE_FFMPEG=1) and not on PATH")
		}
		t.Skip("ffmpeg is not on PATH")
	}
	return ToolsBeside(path)
}

// synthesise writes a file made with ffmpeg's own sources.
func synthesise(t testing.TB, tools Tools, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.Command(tools.FFmpeg, append(append([]string{"-v", "error", "-nostdin", "-y"}, args...), path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestEncodePackageVerify(t *testing.T) {
	tools := testTools(t)
	for _, c := range []struct {
		name, file string
		args       []string
		audio      bool
		fps        int
		durations  []uint64
	}{
		{"sound shorter than picture, broadcast rate", "a.mkv", []string{
			"-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30000/1001:duration=5", "-f", "lavfi", "-i", "sine=frequency=440:duration=3",
			"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "pcm_s16le"}, true, 30, []uint64{2000, 2000, 1000}},
		{"no sound, odd shape, slow rate", "b.mp4", []string{
			"-f", "lavfi", "-i", "testsrc2=size=130x98:rate=10:duration=4", "-c:v", "libx264", "-preset", "ultrafast"}, false, 12, []uint64{2000, 2000}},
		{"sound longer than picture, surround", "c.mkv", []string{
			"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=1", "-f", "lavfi", "-i", "sine=frequency=440:duration=2.2", "-ac", "6",
			"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"}, true, 25, nil},
		{"shorter than a segment", "d.mkv", []string{
			"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=0.4", "-c:v", "libx264", "-preset", "ultrafast"}, false, 25, []uint64{400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			input := synthesise(t, tools, c.file, c.args...)
			dir, x := encodeTitle(t, tools, input, c.audio, c.fps)
			var got []uint64
			for _, s := range x.Tracks[0].Segments {
				got = append(got, s.DurationMS)
			}
			if c.durations != nil && !slices.Equal(got, c.durations) {
				t.Errorf("segments last %v ms, want %v", got, c.durations)
			}
			if audio := x.ByKind(KindAudio); len(audio) != 1 || len(audio[0].Segments) != len(got) {
				t.Errorf("audio tracks %+v, want one with %d segments", audio, len(got))
			} else if late := int64(x.DurationMS) - int64(audio[0].DurationMS()); late < 0 || late > 25 {
				t.Errorf("sound ends %d ms before the picture", late)
			}
			if len(got) == 3 { // one is enough: they differ in numbers only
				playManifests(t, tools, dir, x)
			}
		})
	}
}

// An original may change its picture's size on the way, as what an adaptive
// player saved does: it has as many frames as any other.
func TestEncodeOfChangingSizes(t *testing.T) {
	tools := testTools(t)
	part := func(size string) string {
		return synthesise(t, tools, "part.h264", "-f", "lavfi", "-i", "testsrc2=size="+size+":rate=25:duration=2", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0")
	}
	input := synthesise(t, tools, "changing.mkv", "-f", "h264", "-r", "25", "-i", "concat:"+part("160x90")+"|"+part("320x180"), "-c", "copy")
	e := Encoding{Input: input, Dir: t.TempDir(), FPS: 25, Frames: 100, AudioKbps: 32, Preset: "ultrafast", Threads: 1, Ladder: []Rung{{ID: "v1", Width: 160, Height: 90, Kbps: 200}}}
	sources, err := tools.Encode(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(e.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	x, err := Package(root, "tt-test", 1, sources...)
	if err != nil {
		t.Fatal(err)
	}
	if err := tools.Verify(t.Context(), e.Dir, x, e.Frames); err != nil {
		t.Error(err)
	}
	if got, err := tools.Quality(t.Context(), e); err != nil || got["v1"] < 0.5 {
		t.Errorf("quality %v, %v", got, err)
	}
}

// encodeTitle takes an original all the way to a verified title.
func encodeTitle(t *testing.T, tools Tools, input string, audio bool, fps int) (string, Index) {
	t.Helper()
	ctx := t.Context()
	o, err := tools.Inspect(ctx, input)
	if err != nil {
		t.Fatal(err)
	}
	if o.Audio != audio || FrameRate(o.FPS) != fps {
		t.Errorf("inspected %+v: want audio %v and a rate near %d", o, audio, fps)
	}
	dir, last := t.TempDir(), 0.0
	frames := Frames(o.Duration, fps)
	sources, err := tools.Encode(ctx, Encoding{
		Input: input, Dir: dir, Ladder: Ladder(o.Width, o.Height, o.FPS), FPS: fps, Frames: frames,
		Audio: o.Audio, AudioKbps: 48, CPU: time.Minute, Progress: func(done float64) { last = done },
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != 1 {
		t.Errorf("progress ended at %v, want 1", last)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	x, err := Package(root, "tt-test", 7, sources...)
	if err != nil {
		t.Fatal(err)
	}
	if err := tools.Verify(ctx, dir, x, frames); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, x.Files()) {
		t.Errorf("the directory holds %v, want %v", names, x.Files())
	}
	return dir, x
}

// playManifests decodes DASH and HLS, from disk and over HTTP.
func playManifests(t *testing.T, tools Tools, dir string, x Index) {
	t.Helper()
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer srv.Close()
	for _, base := range []string{dir + "/", srv.URL + "/"} {
		for _, m := range []string{DASHPath, HLSPath} {
			cmd := exec.Command(tools.FFmpeg, "-v", "error", "-nostdin", "-xerror", "-i", base+m, "-map", "0:v", "-map", "0:a?", "-f", "framecrc", "-")
			out, err := cmd.Output()
			var ee *exec.ExitError
			if errors.As(err, &ee) {
				t.Errorf("%s%s: %v: %s", base, m, err, ee.Stderr)
			}
			counts := map[string]int{}
			for line := range strings.Lines(string(out)) {
				if id, _, ok := strings.Cut(line, ","); ok && !strings.HasPrefix(line, "#") {
					counts[id]++
				}
			}
			if want := len(x.ByKind(KindVideo)) + 1; len(counts) < want {
				t.Errorf("%s%s: %d streams decoded, want %d", base, m, len(counts), want)
			}
			for i := 1; i < 3; i++ {
				if a, b := counts["0"], counts[string(rune('0'+i))]; a != b {
					t.Errorf("%s%s: rung 1 has %d frames and rung %d has %d", base, m, a, i+1, b)
				}
			}
		}
	}
}

func TestInspectRefusesWhatIsNoVideo(t *testing.T) {
	tools := testTools(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"text.mp4":      "this is not a video\n",
		"playlist.m3u8": "#EXTM3U\n#EXTINF:2,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
		"concat.txt":    "ffconcat version 1.0\nfile /etc/passwd\n",
		"empty.mp4":     "",
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tools.Inspect(t.Context(), path); !errors.Is(err, ErrNoVideo) {
			t.Errorf("%s: error %v, want ErrNoVideo", name, err)
		}
	}
	sound := synthesise(t, tools, "sound.mka", "-f", "lavfi", "-i", "sine=duration=1")
	if _, err := tools.Inspect(t.Context(), sound); !errors.Is(err, ErrNoVideo) {
		t.Errorf("sound alone: error %v, want ErrNoVideo", err)
	}
}

func TestEncodeEndsWithItsContext(t *testing.T) {
	tools := testTools(t)
	input := synthesise(t, tools, "long.mkv", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=5", "-c:v", "libx264", "-preset", "ultrafast")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir := t.TempDir()
	_, err := tools.Encode(ctx, Encoding{
		Input: input, Dir: dir, Ladder: Ladder(320, 180, 25), FPS: 25, Frames: 500000, AudioKbps: 48,
		Progress: func(float64) { cancel() },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestToolsAbsent(t *testing.T) {
	_, err := ToolsBeside(filepath.Join(t.TempDir(), "ffmpeg")).Inspect(t.Context(), "x")
	if err == nil || !strings.Contains(err.Error(), "install ffmpeg") {
		t.Errorf("error %v, want a hint to install ffmpeg", err)
	}
}
