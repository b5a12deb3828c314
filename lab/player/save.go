package player

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
)

// saver writes what was received as one MP4. A nil saver saves nothing.
type saver struct {
	mux  *media.Muxer
	file *os.File // nil when somebody else's
	path string
}

// newSaver opens the output, or returns nil when none was asked for.
func newSaver(o Options) (*saver, error) {
	switch {
	case o.SaveTo != nil:
		return &saver{mux: media.NewMuxer(o.SaveTo)}, nil
	case o.Save == "":
		return nil, nil
	}
	// The rename would find it out, when all has been played.
	if st, err := os.Stat(o.Save); err == nil && st.IsDir() {
		return nil, services.Errorf(services.Invalid, "save %s: that is a directory", o.Save).WithRemedy("name the file to write, e.g. %s", filepath.Join(o.Save, "play.mp4"))
	}
	f, err := os.CreateTemp(filepath.Dir(o.Save), "."+filepath.Base(o.Save)+".*")
	if err != nil {
		return nil, &services.Error{Op: "save " + o.Save, Kind: services.Invalid, Msg: "the file cannot be made", Remedy: "name a file in a directory that can be written", Err: err}
	}
	return &saver{mux: media.NewMuxer(io.WriteSeeker(f)), file: f, path: o.Save}, nil
}

func (s *saver) init(kind string, b []byte) error {
	switch {
	case s == nil:
		return nil
	case kind == media.KindAudio:
		return s.mux.AddAudio(b)
	}
	return s.mux.AddVideo(b)
}

func (s *saver) segment(kind string, b []byte) error {
	switch {
	case s == nil:
		return nil
	case kind == media.KindAudio:
		return s.mux.WriteAudio(b)
	}
	return s.mux.WriteVideo(b)
}

// commit makes the file whole and gives it its name.
func (s *saver) commit() error {
	if s == nil {
		return nil
	}
	err := s.mux.Close()
	if s.file == nil {
		return err
	}
	if err == nil {
		err = s.file.Chmod(0o644)
	}
	if cerr := s.file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(s.file.Name(), s.path)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", s.path, errors.Join(err, s.discard()))
	}
	s.file = nil
	return nil
}

// discard removes what was written so far. It does nothing after a commit.
func (s *saver) discard() error {
	if s == nil || s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	_ = f.Close() // it is removed: what it says does not matter
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
