package media

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Original is what inspection says of a file to encode.
type Original struct {
	// Format is the demuxer's name, e.g. "matroska,webm".
	Format   string        `json:"format"`
	Duration time.Duration `json:"duration"`
	// Width and Height as displayed: rotation and pixel shape applied.
	Width  int `json:"width"`
	Height int `json:"height"`
	// FPS is the average frame rate.
	FPS float64 `json:"fps"`
	// Audio says that there is a sound track.
	Audio bool `json:"audio"`
}

// ErrNoVideo says that a file is no video at all, or has none that can be
// decoded.
var ErrNoVideo = errors.New("not a video")

type probeReply struct {
	Streams []struct {
		CodecType   string `json:"codec_type"`
		CodecName   string `json:"codec_name"`
		Width       int    `json:"width"`
		Height      int    `json:"height"`
		Aspect      string `json:"sample_aspect_ratio"`
		FrameRate   string `json:"avg_frame_rate"`
		RealRate    string `json:"r_frame_rate"`
		Duration    string `json:"duration"`
		Disposition struct {
			AttachedPic int `json:"attached_pic"`
		} `json:"disposition"`
		SideData []struct {
			Rotation float64 `json:"rotation"`
		} `json:"side_data_list"`
	} `json:"streams"`
	Format struct {
		Name     string `json:"format_name"`
		Duration string `json:"duration"`
	} `json:"format"`
}

// maxProbeReply bounds ffprobe's answer, bytes.
const maxProbeReply = 1 << 20

// Inspect reads what a file holds. It fails with ErrNoVideo in the chain when
// the file has no video that could be encoded, and with ErrCutOff when its end is
// missing.
func (t Tools) Inspect(ctx context.Context, path string) (Original, error) {
	in, err := inputArgs(path)
	if err != nil {
		return Original{}, err
	}
	args := append([]string{"-v", "error", "-max_alloc", maxAlloc, "-of", "json", "-show_streams", "-show_format"}, in...)
	out := &limited{max: maxProbeReply}
	if _, err := run(ctx, "", t.FFprobe, args, out); err != nil {
		var te *ToolError
		if errors.As(err, &te) && ctx.Err() == nil && te.Output != "" {
			return Original{}, fmt.Errorf("%w: %w", ErrNoVideo, err)
		}
		return Original{}, err
	}
	var r probeReply
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return Original{}, fmt.Errorf("ffprobe: its answer is not JSON: %w", err)
	}
	o, err := r.original()
	if err != nil {
		return Original{}, err
	}
	return o, t.checkEnd(ctx, path, o)
}

func (r probeReply) original() (Original, error) {
	o := Original{Format: r.Format.Name}
	found := false
	for _, s := range r.Streams {
		switch {
		case s.CodecType == "audio":
			o.Audio = true
		case s.CodecType != "video" || s.Disposition.AttachedPic != 0 || found:
		default:
			found = true
			o.Width, o.Height = s.Width, s.Height
			if n, d, ok := ratio(s.Aspect, ":"); ok && n != d {
				o.Width = int(math.Round(float64(s.Width) * n / d))
			}
			for _, sd := range s.SideData {
				if r := int(math.Abs(math.Round(sd.Rotation))) % 180; r == 90 {
					o.Width, o.Height = o.Height, o.Width
				}
			}
			for _, rate := range []string{s.FrameRate, s.RealRate} {
				if n, d, ok := ratio(rate, "/"); ok && o.FPS == 0 {
					o.FPS = n / d
				}
			}
			o.Duration = seconds(s.Duration)
		}
	}
	o.Duration = max(o.Duration, seconds(r.Format.Duration))
	switch {
	case !found:
		return Original{}, fmt.Errorf("%w: the file has no video stream", ErrNoVideo)
	case o.Width <= 0 || o.Height <= 0:
		return Original{}, fmt.Errorf("%w: the video stream has no picture size", ErrNoVideo)
	case o.Duration <= 0:
		return Original{}, fmt.Errorf("%w: the file does not say how long it lasts", ErrNoVideo)
	}
	return o, nil
}

func ratio(s, sep string) (n, d float64, ok bool) {
	a, b, found := strings.Cut(s, sep)
	n, err1 := strconv.ParseFloat(a, 64)
	d, err2 := strconv.ParseFloat(b, 64)
	return n, d, found && err1 == nil && err2 == nil && n > 0 && d > 0
}

func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f > maxDurationMS/1000 {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}

// limited is a buffer that refuses to grow beyond max bytes.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.max {
		return 0, fmt.Errorf("more than %d bytes of output", l.max)
	}
	return l.Buffer.Write(p)
}
