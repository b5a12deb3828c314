package media

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxDurationMS bounds a segment and a title: four days.
const maxDurationMS = 4 * 24 * 3600 * 1000

// Bounds of what a track may say that it has.
const (
	maxFrameRate = 1000
	maxChannels  = 128
)

// Validate checks what every reader of an index relies on: names, contiguous
// segments that end with the file, checksums of the right size, and video
// rungs whose segments begin and end together.
func (x Index) Validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("index of %q: "+format, append([]any{x.Title}, args...)...))
	}
	if x.Title == "" {
		fail("it names no title")
	}
	if x.DurationMS == 0 || x.DurationMS > maxDurationMS {
		fail("a duration of %d ms is outside 1 to %d", x.DurationMS, maxDurationMS)
	}
	if len(x.Tracks) == 0 {
		fail("it has no tracks")
	}
	ids, paths := map[string]bool{}, map[string]bool{}
	var first *Track
	for i := range x.Tracks {
		t := &x.Tracks[i]
		if t.ID == "" || ids[t.ID] || paths[t.Path] {
			fail("track %d repeats an id or a path: %q, %q", i+1, t.ID, t.Path)
		}
		ids[t.ID], paths[t.Path] = true, true
		if err := t.validate(); err != nil {
			fail("track %q: %w", t.ID, err)
			continue
		}
		if t.Kind != KindVideo {
			continue
		}
		if first == nil {
			first = t
		} else if err := aligned(*first, *t); err != nil {
			fail("%w", err)
		}
	}
	return errors.Join(errs...)
}

func (t Track) validate() error {
	if !(t.SSIM >= 0 && t.SSIM <= 1) {
		return fmt.Errorf("a similarity of %v is outside 0 to 1", t.SSIM)
	}
	if !(t.FrameRate >= 0 && t.FrameRate <= maxFrameRate) || t.Channels < 0 || t.Channels > maxChannels {
		return fmt.Errorf("%v frames per second or %d channels are outside 0 to %d and 0 to %d", t.FrameRate, t.Channels, maxFrameRate, maxChannels)
	}
	if t.Kind != KindVideo && t.Kind != KindAudio {
		return fmt.Errorf("kind %q is neither %q nor %q", t.Kind, KindVideo, KindAudio)
	}
	if !fs.ValidPath(t.Path) || path.Base(t.Path) != t.Path || strings.ContainsAny(t.Path, "\"\\\n\r,#?%&<>") || t.Path == "." {
		return fmt.Errorf("path %q is not a plain file name", t.Path)
	}
	if t.Init.Offset != 0 || t.Init.Size == 0 || len(t.Init.SHA256) != sha256.Size {
		return errors.New("the initialisation segment must begin at byte 0 and have a size and a SHA-256")
	}
	if len(t.Segments) == 0 {
		return errors.New("it has no segments")
	}
	if t.Sidx.Size > 0 && (t.Sidx.Offset != t.Init.Size || t.Sidx.Size > t.Size || len(t.Sidx.SHA256) != sha256.Size) {
		return errors.New("the segment index must follow the initialisation segment and have a SHA-256")
	}
	at := t.Init.Size + t.Sidx.Size
	for i, s := range t.Segments {
		switch {
		case s.Offset != at:
			return fmt.Errorf("segment %d begins at byte %d where %d is expected", i+1, s.Offset, at)
		case s.Size == 0 || s.Size > t.Size || at+s.Size > t.Size:
			return fmt.Errorf("segment %d of %d bytes passes the end of the file of %d", i+1, s.Size, t.Size)
		case s.Key > s.Size:
			return fmt.Errorf("segment %d of %d bytes begins with a picture of %d", i+1, s.Size, s.Key)
		case len(s.SHA256) != sha256.Size:
			return fmt.Errorf("segment %d has no SHA-256", i+1)
		case s.DurationMS > maxDurationMS:
			return fmt.Errorf("segment %d lasts %d ms, more than %d", i+1, s.DurationMS, maxDurationMS)
		}
		at += s.Size
	}
	if at != t.Size {
		return fmt.Errorf("the segments end at byte %d, the file at %d", at, t.Size)
	}
	return nil
}

// aligned says whether a client can switch between two rungs at any segment.
func aligned(a, b Track) error {
	if len(a.Segments) != len(b.Segments) {
		return fmt.Errorf("rung %q has %d segments and rung %q has %d: they must be aligned", a.ID, len(a.Segments), b.ID, len(b.Segments))
	}
	for i := range a.Segments {
		if a.Segments[i].DurationMS != b.Segments[i].DurationMS {
			return fmt.Errorf("segment %d lasts %d ms in rung %q and %d ms in rung %q: they must be aligned", i+1, a.Segments[i].DurationMS, a.ID, b.Segments[i].DurationMS, b.ID)
		}
	}
	return nil
}

// CheckFiles compares an index with the files it describes, byte for byte.
func (x Index) CheckFiles(fsys fs.FS) error {
	if err := x.Validate(); err != nil {
		return err
	}
	for _, t := range x.Tracks {
		if err := t.checkFile(fsys); err != nil {
			return fmt.Errorf("%s: %w", t.Path, err)
		}
	}
	return nil
}

func (t Track) checkFile(fsys fs.FS) error {
	f, r, size, err := openAt(fsys, t.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if uint64(size) != t.Size {
		return fmt.Errorf("the file has %d bytes, the index says %d", size, t.Size)
	}
	parts := append([]Segment{t.Init}, t.Segments...)
	if t.Sidx.Size > 0 {
		parts = append(parts, t.Sidx)
	}
	for i, s := range parts {
		sum, err := hashRange(r, int64(s.Offset), int64(s.Size))
		if err != nil {
			return err
		}
		if !bytes.Equal(sum, s.SHA256) {
			return fmt.Errorf("part %d, %d bytes from %d, does not match its SHA-256", i, s.Size, s.Offset)
		}
	}
	return nil
}
