package media

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Encoding says what to make of an original.
type Encoding struct {
	// Input is the original's path.
	Input string
	// Dir is an existing directory for the track files.
	Dir string
	// Ladder of rungs, lowest first.
	Ladder []Rung
	// FPS is the constant frame rate, see FrameRate.
	FPS int
	// Frames of every rung.
	Frames int
	// Audio takes the original's sound; otherwise silence is encoded, so that
	// every title has the same tracks.
	Audio     bool
	AudioKbps int
	// Preset of x264; "" is "veryfast".
	Preset string
	// Threads of each encoder; 0 lets it choose.
	Threads int
	// CPU is the most processor time the run may take; 0 is no limit.
	CPU time.Duration
	// Progress, if set, is told the share done, 0 to 1. It runs on another
	// goroutine, never after Encode has returned.
	Progress func(done float64)
}

// Frames is the number of frames of a duration at a constant rate.
func Frames(d time.Duration, fps int) int {
	return max(1, int(d.Seconds()*float64(fps)+0.5))
}

// Sound is encoded at one rate, in AAC frames of a fixed size. The encoder
// puts one frame of silence before it (its priming).
const (
	sampleRate    = 48000
	samplesPerAAC = 1024
)

// Encode makes single-file CMAF tracks: one per rung, "v1.mp4" upwards, and
// "a1.mp4". All rungs have closed groups of pictures of exactly 2 s that begin
// together, each its own fragment with its parameter sets in band, so that a
// client may switch at any segment and rungs may be joined. The files appear
// under their names only when all are complete; Encode may be repeated.
func (t Tools) Encode(ctx context.Context, e Encoding) ([]Source, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(e.Dir, "encode-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	args, err := e.args()
	if err != nil {
		return nil, err
	}
	out, done := keyValues(func(k, v string) {
		if n, err := strconv.Atoi(v); err == nil && k == "frame" && e.Progress != nil {
			e.Progress(min(1, float64(n)/float64(e.Frames)))
		}
	})
	_, err = run(ctx, tmp, t.FFmpeg, args, out)
	out.Close()
	<-done
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	var sources []Source
	for i := range len(e.Ladder) + 1 {
		id := AudioID
		if i < len(e.Ladder) {
			id = e.Ladder[i].ID
		}
		s := Source{ID: id, Path: id + ".mp4"}
		if err := finish(filepath.Join(tmp, fmt.Sprintf("track-%d.mp4", i)), filepath.Join(e.Dir, s.Path)); err != nil {
			return nil, fmt.Errorf("encode %s: %w", s.Path, err)
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// finish mends a complete track, makes it durable and gives it its name.
func finish(from, to string) error {
	f, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(mendSidx(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (e Encoding) check() error {
	switch {
	case len(e.Ladder) == 0:
		return errors.New("encode: the ladder has no rungs")
	case e.FPS <= 0 || e.Frames <= 0 || e.AudioKbps <= 0:
		return errors.New("encode: frame rate, number of frames and audio rate must be positive")
	}
	for _, r := range e.Ladder {
		if r.ID == "" || filepath.Base(r.ID) != r.ID || r.Width <= 0 || r.Height <= 0 || r.Width%2 != 0 || r.Height%2 != 0 || r.Kbps <= 0 {
			return fmt.Errorf("encode: rung %q of %d×%d at %d kbit/s needs a plain id, an even picture size and a rate", r.ID, r.Width, r.Height, r.Kbps)
		}
	}
	return nil
}

// original opens the input. Where its pictures change their size or format the
// filters take them as they come: by itself ffmpeg would begin the graph anew, and
// with it the count of frames.
func (e Encoding) original() ([]string, error) {
	in, err := inputArgs(e.Input)
	return append([]string{"-reinit_filter:v", "0"}, in...), err
}

func (e Encoding) args() ([]string, error) {
	in, err := e.original()
	if err != nil {
		return nil, err
	}
	args := []string{"-v", "error", "-nostdin", "-nostats", "-y", "-progress", "pipe:1", "-max_alloc", maxAlloc}
	if e.CPU > 0 {
		args = append(args, "-timelimit", strconv.Itoa(max(1, int(e.CPU.Seconds()))))
	}
	args = append(args, "-max_pixels", maxPixels)
	args = append(args, in...)
	args = append(args, "-filter_complex", e.filter())
	for i := range e.Ladder {
		args = append(args, "-map", fmt.Sprintf("[v%d]", i))
	}
	args = append(args, "-map", "[a]", "-map_metadata", "-1", "-map_chapters", "-1")
	args = append(args, e.videoArgs()...)
	args = append(args, "-c:a", "aac", "-b:a", fmt.Sprintf("%dk", e.AudioKbps),
		// Same input, same bytes: no versions, no times in the files.
		"-flags:a", "+bitexact", "-fflags", "+bitexact",
		"-f", "dash", "-single_file", "1", "-single_file_name", "track-$RepresentationID$.mp4",
		"-global_sidx", "1", "-seg_duration", strconv.Itoa(SegmentMS/1000), "-format_options", "movflags=+cmaf", "tracks.mpd")
	return args, nil
}

// filter scales the picture for each rung at a constant rate and gives
// picture and sound exactly the duration of Frames, padding the shorter one.
func (e Encoding) filter() string {
	var f strings.Builder
	fmt.Fprintf(&f, "[0:V:0]fps=%d:start_time=0,tpad=stop=-1:stop_mode=clone,trim=end_frame=%d,split=%d", e.FPS, e.Frames, len(e.Ladder))
	for i := range e.Ladder {
		fmt.Fprintf(&f, "[s%d]", i)
	}
	for i, r := range e.Ladder {
		fmt.Fprintf(&f, ";[s%d]scale=%d:%d:flags=bicubic,setsar=1,format=yuv420p[v%d]", i, r.Width, r.Height, i)
	}
	// Whole AAC frames, not longer than the picture. The encoder's priming
	// takes the place of the first frame, so that sound stays in step without
	// an edit list.
	samples := max(2, int(int64(e.Frames)*sampleRate/int64(e.FPS)/samplesPerAAC)) * samplesPerAAC
	if e.Audio {
		fmt.Fprintf(&f, ";[0:a:0]aresample=%d:async=1:first_pts=0,aformat=sample_fmts=fltp:channel_layouts=stereo,apad", sampleRate)
	} else {
		fmt.Fprintf(&f, ";anullsrc=sample_rate=%d:channel_layout=stereo", sampleRate)
	}
	fmt.Fprintf(&f, ",atrim=start_sample=%d:end_sample=%d,asetpts=N/SR/TB[a]", samplesPerAAC, samples)
	return f.String()
}

func (e Encoding) videoArgs() []string {
	preset := e.Preset
	if preset == "" {
		preset = "veryfast"
	}
	gop := strconv.Itoa(e.FPS * SegmentMS / 1000)
	args := []string{
		"-c:v", "libx264", "-preset", preset, "-threads:v", strconv.Itoa(e.Threads), "-pix_fmt", "yuv420p",
		// Decode order is display order: no edit list and no negative offsets,
		// which demuxers disagree on.
		"-bf", "0",
		"-g", gop, "-keyint_min", gop, "-sc_threshold", "0",
		"-force_key_frames", fmt.Sprintf("expr:gte(t,n_forced*%d)", SegmentMS/1000),
		"-flags:v", "+cgop+bitexact", "-x264-params", "repeat-headers=1:open-gop=0:scenecut=0",
	}
	for i, r := range e.Ladder {
		args = append(args, fmt.Sprintf("-b:v:%d", i), fmt.Sprintf("%dk", r.Kbps),
			fmt.Sprintf("-maxrate:v:%d", i), fmt.Sprintf("%dk", r.Kbps*5/4),
			fmt.Sprintf("-bufsize:v:%d", i), fmt.Sprintf("%dk", r.Kbps*2))
	}
	return args
}
