package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Verify checks a packaged title: every byte against the index, every rung's
// number of frames, and that ffmpeg decodes each track without a complaint.
func (t Tools) Verify(ctx context.Context, dir string, x Index, frames int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := x.CheckFiles(root.FS()); err != nil {
		return err
	}
	for _, tr := range x.Tracks {
		if err := checkFrames(root, tr, frames); err != nil {
			return err
		}
		if err := t.Decode(ctx, filepath.Join(dir, tr.Path)); err != nil {
			return err
		}
	}
	return nil
}

func checkFrames(root *os.Root, tr Track, frames int) error {
	if tr.Kind != KindVideo {
		return nil
	}
	f, r, size, err := openAt(root.FS(), tr.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	layout, err := readTrack(r, size)
	if err != nil {
		return fmt.Errorf("%s: %w", tr.Path, err)
	}
	if n := layout.Samples(); n != frames {
		return fmt.Errorf("%s: %d frames where %d are expected", tr.Path, n, frames)
	}
	return nil
}

// Decode decodes a file or a manifest's local file completely and fails if the
// decoder had anything to complain about.
func (t Tools) Decode(ctx context.Context, path string) error {
	in, err := inputArgs(path)
	if err != nil {
		return err
	}
	args := append([]string{"-v", "error", "-nostdin", "-xerror", "-max_alloc", maxAlloc, "-max_pixels", maxPixels}, in...)
	args = append(args, "-map", "0", "-f", "null", "-")
	complaints, err := run(ctx, "", t.FFmpeg, args, io.Discard)
	if err == nil && complaints != "" {
		err = errors.New(complaints)
	}
	if err != nil {
		return fmt.Errorf("decode %s: %w", filepath.Base(path), err)
	}
	return nil
}
