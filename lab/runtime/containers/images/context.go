package images

import (
	"archive/tar"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"
)

// past is the time of every file in a context: an archive of classes is valid
// only for jars of the very same time, and what is the same should look so.
func past() time.Time { return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) }

// writeContext writes what the engine builds a recipe's image from.
func (b *build) writeContext(w io.Writer, r recipe) error {
	t := tar.NewWriter(w)
	files, err := contextFiles(r.name)
	if err != nil {
		return err
	}
	for _, f := range files {
		body, err := contexts.ReadFile(path.Join("context", r.name, f))
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: f, Mode: 0o644, Size: int64(len(body)), ModTime: past()}); err != nil {
			return err
		}
		if _, err := t.Write(body); err != nil {
			return err
		}
	}
	if r.maven {
		if err := addFolder(t, b.lib(r), "lib"); err != nil {
			return err
		}
	}
	if r.module != "" {
		if err := addFolder(t, b.bin(r), "."); err != nil {
			return err
		}
	}
	return t.Close()
}

// addFolder adds the regular files of a folder.
func addFolder(t *tar.Writer, dir, as string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if err := addFile(t, filepath.Join(dir, e.Name()), path.Join(as, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func addFile(t *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size(), ModTime: past()}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
