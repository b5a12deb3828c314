package player

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
)

// needFFmpeg skips a test when ffmpeg is not there, unless it has to be.
func needFFmpeg(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("FLIX_REQUIRE_FFMPEG") == "1" {
				t.Fatalf("%s is not on PATH and FLIX_REQUIRE_FFMPEG=1", tool)
			}
			t.Skipf("%s is not on PATH: install it to run this test", tool)
		}
	}
}

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestSavedFilePlays(t *testing.T) {
	t.Parallel()
	needFFmpeg(t)
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLab(t, 1, "isp")
		dir := t.TempDir()
		args := "ffmpeg -v error -y -f lavfi -i testsrc2=size=640x360:rate=24:duration=12 -f lavfi -i sine=frequency=440:duration=12 " +
			"-map 0:v -map 0:v -map 1:a -c:v libx264 -preset ultrafast -x264-params repeat-headers=1:keyint=48:min-keyint=48:scenecut=0 " +
			"-b:v:0 150k -s:v:0 320x180 -b:v:1 400k -s:v:1 640x360 -c:a aac -b:a 64k " +
			"-seg_duration 2 -frag_type duration -frag_duration 2 -f dash -single_file 1"
		run(t, dir, append(strings.Fields(args), "-adaptation_sets", "id=0,streams=v id=1,streams=a", "out.mpd")...)
		index, err := media.BuildIndex(os.DirFS(dir), fakeTitle, fakeVersion,
			media.Source{ID: "v1", Path: "out-stream0.mp4"}, media.Source{ID: "v2", Path: "out-stream1.mp4"}, media.Source{ID: "a1", Path: "out-stream2.mp4"})
		if err != nil {
			t.Fatal(err)
		}
		l.index = index
		for _, tr := range index.Tracks {
			if l.files[tr.Path], err = os.ReadFile(filepath.Join(dir, tr.Path)); err != nil {
				t.Fatal(err)
			}
		}
		l.setIndex()
		o := l.options()
		o.Speed, o.Save = 20, filepath.Join(t.TempDir(), "out.mp4")
		r := mustPlay(t, l, o)
		if r.Switches == 0 {
			t.Errorf("played %s: the test wants a switch of rungs in the file", rungIDs(r))
		}
		if out := run(t, dir, "ffmpeg", "-v", "error", "-i", o.Save, "-f", "null", "-"); out != "" {
			t.Errorf("ffmpeg complains:\n%s", out)
		}
		streams := run(t, dir, "ffprobe", "-v", "error", "-show_entries", "stream=codec_type,nb_read_packets", "-count_packets", "-of", "csv=p=0", o.Save)
		if want := "video,288\naudio,"; !strings.HasPrefix(streams, want) {
			t.Errorf("ffprobe reads %q, want it to begin with %q", streams, want)
		}
		left, _ := os.ReadDir(filepath.Dir(o.Save))
		if len(left) != 1 {
			t.Errorf("%v beside the file", left)
		}
	})
}

// TestSaveNamesADirectory found it out at the rename, when all had been played.
func TestSaveNamesADirectory(t *testing.T) {
	dir := t.TempDir()
	s, err := newSaver(Options{Save: dir})
	if s != nil || services.KindOf(err) != services.Invalid {
		t.Errorf("saver %v, error %v", s, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
