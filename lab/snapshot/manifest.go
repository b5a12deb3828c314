// Package snapshot is the form of a lab's snapshot on disk: a folder with a
// manifest and one tar archive for each data directory or volume, and how
// directories become archives and archives directories again.
//
// An archive that is unpacked is not trusted: nothing in it leads out of the
// directory, is a link or a device, runs as somebody else, or is more than the
// manifest promises. The package knows nothing of what is in the archives.
package snapshot

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// Format is the version of the manifest that is written, and the only one that
// is read.
const Format = 1

// manifestFile is the manifest's name in a snapshot's folder.
const manifestFile = "manifest.json"

// Manifest describes a snapshot.
type Manifest struct {
	Format int    `json:"format"`
	Name   string `json:"name"`
	// Lab, Runtime and Topology are those of the lab that was saved.
	Lab      string            `json:"lab"`
	Runtime  string            `json:"runtime"`
	Topology topology.Topology `json:"topology"`
	Created  time.Time         `json:"created"`
	// Version of the flix that saved it.
	Version string `json:"version"`
	// OutageMS is how long the lab was stopped for it, in milliseconds.
	OutageMS float64 `json:"outage_ms"`
	// State are files of the lab's own, Parts archives of what its instances keep.
	State []Part `json:"state"`
	Parts []Part `json:"parts"`
}

// Part is one file of a snapshot.
type Part struct {
	// Name is the data directory below the lab's, or what the runtime calls a
	// volume; of a state file, its path below the lab's folder.
	Name string `json:"name"`
	// Host and Role of the instance whose volume it is.
	Host string `json:"host,omitempty"`
	Role string `json:"role,omitempty"`
	// File is its name in the snapshot's folder.
	File string `json:"file"`
	// SHA256 of the file, in hexadecimal, and its Bytes.
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	// Content is what an archive holds.
	Content Content `json:"content,omitzero"`
}

// Content is how much an archive holds.
type Content struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

var plain = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,199}$`)

// Read reads the manifest of the snapshot in a folder. It fails with NotFound
// when there is none and with Invalid when it is not one that can be used.
func Read(dir string) (Manifest, error) {
	var m Manifest
	b, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, services.Errorf(services.NotFound, "there is no snapshot %q", filepath.Base(dir)).WithRemedy("list them: flix lab snapshot ls")
	}
	if err != nil {
		return m, fmt.Errorf("snapshot: %w", err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, damaged(dir, "its manifest cannot be read: "+err.Error())
	}
	if m.Format != Format {
		return m, services.Errorf(services.Invalid, "snapshot %s has format %d, this flix reads %d", filepath.Base(dir), m.Format, Format).WithRemedy("use a flix of version %s", m.Version)
	}
	for _, p := range append(m.Parts, m.State...) {
		if !plain.MatchString(p.File) || !filepath.IsLocal(p.Name) {
			return m, damaged(dir, fmt.Sprintf("part %q of it leads elsewhere", p.Name))
		}
	}
	return m, nil
}

func damaged(dir, why string) error {
	return services.Errorf(services.Invalid, "snapshot %s is damaged: %s", filepath.Base(dir), why).WithRemedy("remove it (flix lab snapshot rm %s), or copy it here again from where it is whole", filepath.Base(dir))
}

// Write writes the manifest; it comes last, so that a folder without one is
// half a snapshot.
func (m Manifest) Write(dir string) error {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, manifestFile), append(b, '\n'), 0o600)
}

// Bytes is the sum of the parts on disk.
func (m Manifest) Bytes() (n int64) {
	for _, p := range m.Parts {
		n += p.Bytes
	}
	for _, p := range m.State {
		n += p.Bytes
	}
	return n
}

// Verify reads every part in a folder and compares it with its checksum.
func (m Manifest) Verify(dir string) error {
	for _, p := range append(m.Parts, m.State...) {
		f, err := os.Open(filepath.Join(dir, p.File))
		if err != nil {
			return damaged(dir, err.Error())
		}
		h := sha256.New()
		n, err := io.Copy(h, io.LimitReader(f, p.Bytes+1))
		f.Close()
		switch {
		case err != nil:
			return fmt.Errorf("snapshot: %w", err)
		case n != p.Bytes:
			return damaged(dir, fmt.Sprintf("%s has not the %d bytes that it had", p.File, p.Bytes))
		case hex.EncodeToString(h.Sum(nil)) != p.SHA256:
			return damaged(dir, p.File+" is not what was saved")
		}
	}
	return nil
}

// Add writes one part into a folder: fill writes its bytes. It completes the
// part with its size and checksum.
func Add(dir string, p Part, fill func(io.Writer) (Content, error)) (Part, error) {
	f, err := os.OpenFile(filepath.Join(dir, p.File), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return p, fmt.Errorf("snapshot: %w", err)
	}
	h := sha256.New()
	n := &counter{}
	p.Content, err = fill(io.MultiWriter(f, h, n))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return p, fmt.Errorf("snapshot: %s: %w", p.Name, err)
	}
	p.SHA256, p.Bytes = hex.EncodeToString(h.Sum(nil)), n.n
	return p, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// Count passes an archive on to w and counts what is in it; done returns the
// count once the archive has ended.
func Count(w io.Writer) (archive io.Writer, done func() (Content, error)) {
	pr, pw := io.Pipe()
	type result struct {
		Content
		err error
	}
	end := make(chan result, 1)
	go func() {
		var r result
		t := tar.NewReader(pr)
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.err = err
				break
			}
			r.Entries++
			r.Bytes += h.Size
		}
		_, err := io.Copy(io.Discard, pr) // the padding behind the last entry
		r.err = errors.Join(r.err, err)
		end <- r
	}()
	return io.MultiWriter(w, pw), func() (Content, error) {
		pw.Close()
		r := <-end
		return r.Content, r.err
	}
}
