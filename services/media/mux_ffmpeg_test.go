package media

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// muxFFmpeg skips a test when ffmpeg is not there, unless it has to be.
func muxFFmpeg(t *testing.T) {
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

func muxRun(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// muxEncode makes two video rungs and an audio track of 8 s, as titles are
// made: fragmented single files with in-band parameter sets.
func muxEncode(t *testing.T) (dir string) {
	dir = t.TempDir()
	args := "ffmpeg -v error -y -f lavfi -i testsrc2=size=640x360:rate=24:duration=8 -f lavfi -i sine=frequency=440:duration=8 " +
		"-map 0:v -map 0:v -map 1:a -c:v libx264 -preset ultrafast -x264-params repeat-headers=1:keyint=48:min-keyint=48:scenecut=0:bframes=2 " +
		"-b:v:0 150k -s:v:0 320x180 -b:v:1 400k -s:v:1 640x360 -c:a aac -b:a 64k " +
		"-seg_duration 2 -frag_type duration -frag_duration 2 -f dash -single_file 1"
	muxRun(t, dir, append(strings.Fields(args), "-adaptation_sets", "id=0,streams=v id=1,streams=a", "out.mpd")...)
	return dir
}

// muxSplit cuts a track file into its init segment and its segments.
func muxSplit(t *testing.T, path string) (init []byte, segments [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at, start, haveInit := 0, 0, false
	err = muxWalk(b, func(kind string, whole []byte, _ int) error {
		at += len(whole)
		switch {
		case kind == "moov":
			init, start, haveInit = b[:at], at, true
		case kind == "mdat" && haveInit:
			segments = append(segments, b[start:at])
			start = at
		}
		return nil
	})
	if err != nil || len(segments) < 4 {
		t.Fatalf("%s: %d segments, %v", path, len(segments), err)
	}
	return init, segments
}

func TestMuxedFilePlaysInFFmpeg(t *testing.T) {
	muxFFmpeg(t)
	dir := muxEncode(t)
	lowInit, low := muxSplit(t, filepath.Join(dir, "out-stream0.mp4"))
	highInit, high := muxSplit(t, filepath.Join(dir, "out-stream1.mp4"))
	audioInit, audio := muxSplit(t, filepath.Join(dir, "out-stream2.mp4"))
	for _, tc := range []struct {
		name    string
		rungs   string // of the video segments, l or h
		first   int    // segment
		height  string // ffprobe decodes the first frame for it
		seconds float64
	}{
		{"one rung", "llll", 0, "180", 8},
		{"switch up", "llhh", 0, "180", 8},
		{"switch down and up", "hlhl", 0, "360", 8},
		{"from the middle", "lh", 2, "180", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, f := muxFile(t)
			muxMust(t, m.AddAudio(audioInit))
			added := map[rune]bool{}
			for i, r := range tc.rungs {
				init, segments := lowInit, low
				if r == 'h' {
					init, segments = highInit, high
				}
				if !added[r] {
					added[r] = true
					muxMust(t, m.AddVideo(init))
				}
				muxMust(t, m.WriteVideo(segments[tc.first+i]), m.WriteAudio(audio[tc.first+i]))
			}
			muxMust(t, m.Close())
			muxCheckPlays(t, f.Name(), tc.height, tc.seconds)
		})
	}
}

// muxCheckPlays asks ffprobe what the file is and ffmpeg to decode all of it.
func muxCheckPlays(t *testing.T, path, height string, seconds float64) {
	t.Helper()
	dir := filepath.Dir(path)
	var probe struct {
		Streams []struct {
			Type   string `json:"codec_type"`
			Height int    `json:"height"`
			Frames string `json:"nb_read_packets"`
		} `json:"streams"`
		Format struct {
			Duration string `json:"duration"`
			Start    string `json:"start_time"`
		} `json:"format"`
	}
	out := muxRun(t, dir, "ffprobe", "-v", "error", "-count_packets", "-show_streams", "-show_format", "-of", "json", path)
	if err := json.Unmarshal([]byte(out), &probe); err != nil {
		t.Fatalf("ffprobe: %v\n%s", err, out)
	}
	if len(probe.Streams) != 2 || probe.Streams[0].Type != "video" || probe.Streams[1].Type != "audio" {
		t.Fatalf("ffprobe sees %+v, want video and audio", probe.Streams)
	}
	if got := fmt.Sprint(probe.Streams[0].Height); got != height {
		t.Errorf("height %s, want %s", got, height)
	}
	if want := fmt.Sprint(24 * seconds); probe.Streams[0].Frames != want {
		t.Errorf("%s frames, want %s", probe.Streams[0].Frames, want)
	}
	for what, v := range map[string]struct {
		got  string
		want float64
	}{"duration": {probe.Format.Duration, seconds}, "start": {probe.Format.Start, 0}} {
		if got, err := strconv.ParseFloat(v.got, 64); err != nil || got < v.want-0.2 || got > v.want+0.2 {
			t.Errorf("%s %s, want about %g s", what, v.got, v.want)
		}
	}
	if out := muxRun(t, dir, "ffmpeg", "-v", "error", "-i", path, "-f", "null", "-"); out != "" {
		t.Errorf("ffmpeg complains:\n%s", out)
	}
}
