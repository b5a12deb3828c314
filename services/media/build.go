package media

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
)

// Names of a title's files beside its tracks.
const (
	IndexPath = "index.json"
	DASHPath  = "manifest.mpd"
	HLSPath   = "master.m3u8"
)

// SegmentMS is the duration of every video segment but the last, milliseconds.
const SegmentMS = 2000

// Source names a track file for BuildIndex.
type Source struct {
	ID   string  // "v1" … "vN" lowest first, "a1"
	Path string  // relative to the title, e.g. "v1.mp4"
	SSIM float64 // see Track; 0 is not known
}

// RungID is the id of the n-th video rung, counted from 1, the lowest.
func RungID(n int) string { return fmt.Sprintf("v%d", n) }

// AudioID is the id of the audio track.
const AudioID = "a1"

// BuildIndex reads single-track CMAF files and describes them: one segment per
// fragment, with checksums. Audio fragments that begin after the video's end
// (an encoder's delay makes such a rest) join the last audio segment. The
// result has passed Validate.
func BuildIndex(fsys fs.FS, title string, version uint64, sources ...Source) (Index, error) {
	x := Index{Title: title, Version: version}
	for _, s := range sources {
		t, err := buildTrack(fsys, s)
		if err != nil {
			return Index{}, fmt.Errorf("%s: %w", s.Path, err)
		}
		x.Tracks = append(x.Tracks, t)
		if t.Kind == KindVideo || len(sources) == 1 {
			x.DurationMS = max(x.DurationMS, t.DurationMS())
		}
	}
	for i, t := range x.Tracks {
		if t.Kind == KindAudio && x.DurationMS > 0 {
			joined, err := joinRest(fsys, t, x.DurationMS)
			if err != nil {
				return Index{}, fmt.Errorf("%s: %w", t.Path, err)
			}
			x.Tracks[i].Segments = joined
		}
	}
	return x, x.Validate()
}

func buildTrack(fsys fs.FS, s Source) (Track, error) {
	f, r, size, err := openAt(fsys, s.Path)
	if err != nil {
		return Track{}, err
	}
	defer f.Close()
	layout, err := readTrack(r, size)
	if err != nil {
		return Track{}, err
	}
	info := layout.Info
	t := Track{
		ID: s.ID, Kind: info.Kind, Path: s.Path, Codecs: info.Codecs,
		Width: info.Width, Height: info.Height, Channels: info.Channels, Size: uint64(size), SSIM: s.SSIM,
		Init: Segment{Size: uint64(layout.InitSize)},
	}
	if t.Init.SHA256, err = hashRange(r, 0, layout.InitSize); err != nil {
		return Track{}, err
	}
	if layout.SidxSize > 0 {
		t.Sidx = Segment{Offset: t.Init.Size, Size: uint64(layout.SidxSize)}
		if t.Sidx.SHA256, err = hashRange(r, layout.InitSize, layout.SidxSize); err != nil {
			return Track{}, err
		}
	}
	base := layout.Fragments[0].DecodeTime
	for i, fr := range layout.Fragments {
		if i > 0 {
			before := layout.Fragments[i-1]
			if want := before.DecodeTime + before.Duration; fr.DecodeTime != want {
				return Track{}, badFormat(fr.Offset, "fragment %d starts at %d where %d is expected: the track has a gap or an overlap", i+1, fr.DecodeTime, want)
			}
		}
		seg := Segment{Offset: uint64(fr.Offset), Size: uint64(fr.Size)}
		// Rounded ends, not rounded durations: the sum must not drift.
		seg.DurationMS = toMS(fr.DecodeTime+fr.Duration-base, info.Timescale) - toMS(fr.DecodeTime-base, info.Timescale)
		if seg.SHA256, err = hashRange(r, fr.Offset, fr.Size); err != nil {
			return Track{}, err
		}
		if t.Kind == KindVideo {
			seg.Key = uint64(fr.Lead)
			t.FrameRate = max(t.FrameRate, frameRate(fr, info.Timescale))
		}
		t.Segments = append(t.Segments, seg)
	}
	t.Kbps = kbps(t.Size, t.DurationMS())
	return t, nil
}

// frameRate is that of a fragment, to three decimals.
func frameRate(fr Fragment, timescale uint32) float64 {
	return math.Round(float64(fr.Samples)*float64(timescale)*1000/float64(fr.Duration)) / 1000
}

// kbps is the average rate of size bytes over a duration.
func kbps(size, ms uint64) int {
	if ms == 0 {
		return 0
	}
	return int(math.Round(float64(size) * 8 / float64(ms)))
}

func toMS(units uint64, timescale uint32) uint64 {
	return (units*1000 + uint64(timescale)/2) / uint64(timescale)
}

// joinRest joins segments that begin at or after the end into the last one.
func joinRest(fsys fs.FS, t Track, end uint64) ([]Segment, error) {
	var at uint64
	for i, s := range t.Segments {
		if i > 0 && at >= end {
			last := t.Segments[i-1]
			for _, rest := range t.Segments[i:] {
				last.Size += rest.Size
				last.DurationMS += rest.DurationMS
			}
			f, r, _, err := openAt(fsys, t.Path)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			if last.SHA256, err = hashRange(r, int64(last.Offset), int64(last.Size)); err != nil {
				return nil, err
			}
			return append(t.Segments[:i-1:i-1], last), nil
		}
		at += s.DurationMS
	}
	return t.Segments, nil
}

// openAt opens a file for reading at offsets; one that cannot seek is read
// whole.
func openAt(fsys fs.FS, path string) (fs.File, io.ReaderAt, int64, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, 0, err
	}
	if r, ok := f.(io.ReaderAt); ok {
		return f, r, info.Size(), nil
	}
	b, err := io.ReadAll(f)
	if err != nil {
		f.Close()
		return nil, nil, 0, err
	}
	return f, bytes.NewReader(b), int64(len(b)), nil
}

func hashRange(r io.ReaderAt, offset, size int64) ([]byte, error) {
	h := sha256.New()
	if n, err := io.Copy(h, io.NewSectionReader(r, offset, size)); err != nil {
		return nil, err
	} else if n != size {
		return nil, badFormat(offset+n, "the file ends early")
	}
	return h.Sum(nil), nil
}

// DurationMS is the sum of the segments' durations, milliseconds.
func (t Track) DurationMS() uint64 {
	var d uint64
	for _, s := range t.Segments {
		d += s.DurationMS
	}
	return d
}

// ByKind lists the tracks of a kind in the index's order (lowest video first).
func (x Index) ByKind(kind string) []Track {
	return slices.DeleteFunc(slices.Clone(x.Tracks), func(t Track) bool { return t.Kind != kind })
}

// JSON is the index file's content; equal indexes give equal bytes.
func (x Index) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// maxIndexSize bounds an index file, bytes: some ten hours of video.
const maxIndexSize = 32 << 20

// ParseIndex reads and validates an index file.
func ParseIndex(b []byte) (Index, error) {
	if len(b) > maxIndexSize {
		return Index{}, fmt.Errorf("index: %d bytes are more than the %d read", len(b), maxIndexSize)
	}
	var x Index
	if err := json.Unmarshal(b, &x); err != nil {
		return Index{}, fmt.Errorf("index: %w", err)
	}
	return x, x.Validate()
}
