package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// maxCompared is how many frames of a title are compared with its original at
// most: evenly spaced, they tell as much as all of them.
const maxCompared = 1500

// ErrNoQuality says that ffmpeg compared the pictures and told nothing of it.
var ErrNoQuality = errors.New("ffmpeg told no structural similarity")

// Quality compares the rungs that Encode made with their original and returns
// each one's mean structural similarity (SSIM; Wang, Bovik, Sheikh and
// Simoncelli, 2004) over luma and chroma as ffmpeg's filter weighs them: 1 is the
// original. Rungs and original are compared in the size of the tallest rung, to
// which a player scales what it shows, so that a low rung pays for what it left
// out. Rounded to four digits: the same tracks give the same values.
func (t Tools) Quality(ctx context.Context, e Encoding) (map[string]float64, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	args, err := e.qualityArgs()
	if err != nil {
		return nil, err
	}
	said, err := run(ctx, "", t.FFmpeg, args, io.Discard)
	if err != nil {
		return nil, fmt.Errorf("quality: %w", err)
	}
	out := similarities(said)
	for _, r := range e.Ladder {
		if _, ok := out[r.ID]; !ok {
			return nil, fmt.Errorf("quality of %s: %w", r.ID, ErrNoQuality)
		}
	}
	return out, nil
}

func (e Encoding) qualityArgs() ([]string, error) {
	args := []string{"-v", "info", "-nostdin", "-nostats", "-hide_banner", "-max_alloc", maxAlloc}
	if e.CPU > 0 {
		args = append(args, "-timelimit", strconv.Itoa(max(1, int(e.CPU.Seconds()))))
	}
	args = append(args, "-max_pixels", maxPixels)
	in, err := e.original()
	if err != nil {
		return nil, err
	}
	args = append(args, in...)
	for _, r := range e.Ladder {
		if in, err = inputArgs(filepath.Join(e.Dir, r.ID+".mp4")); err != nil {
			return nil, err
		}
		args = append(args, in...)
	}
	args = append(args, "-filter_complex", e.comparison())
	for i := range e.Ladder {
		args = append(args, "-map", fmt.Sprintf("[q%d]", i))
	}
	return append(args, "-f", "null", "-"), nil
}

// comparison is the graph: the original as Encode takes it, and each rung, both
// in the tallest rung's size, every so many frames, matched by their number.
func (e Encoding) comparison() string {
	top := e.Ladder[0]
	for _, r := range e.Ladder {
		if r.Height > top.Height {
			top = r
		}
	}
	like := fmt.Sprintf("framestep=%d,scale=%d:%d:flags=bicubic,setsar=1,format=yuv420p,settb=1/%d,setpts=N", max(1, (e.Frames+maxCompared-1)/maxCompared), top.Width, top.Height, e.FPS)
	var f strings.Builder
	fmt.Fprintf(&f, "[0:V:0]fps=%d:start_time=0,tpad=stop=-1:stop_mode=clone,trim=end_frame=%d,%s,split=%d", e.FPS, e.Frames, like, len(e.Ladder))
	for i := range e.Ladder {
		fmt.Fprintf(&f, "[o%d]", i)
	}
	for i, r := range e.Ladder {
		fmt.Fprintf(&f, ";[%d:V:0]%s[r%d];[r%d][o%d]ssim@%s=shortest=1[q%d]", i+1, like, i, i, i, r.ID, i)
	}
	return f.String()
}

// similarity is what the filter writes at its end; its instance has the rung's
// name.
var similarity = regexp.MustCompile(`\[ssim@([^ \]]+) @ [^\]]*\] SSIM [^\[]*?All:([0-9.]+)`)

// similarities reads the filter's words.
func similarities(said string) map[string]float64 {
	out := map[string]float64{}
	for _, m := range similarity.FindAllStringSubmatch(said, -1) {
		if v, err := strconv.ParseFloat(m[2], 64); err == nil && v >= 0 && v <= 1 {
			out[m[1]] = math.Round(v*1e4) / 1e4
		}
	}
	return out
}
