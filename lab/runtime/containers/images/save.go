package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// Saved is the result of Save.
type Saved struct {
	File string `json:"file"`
	// SizeBytes and SHA256 are the file's: what flix images load takes as
	// --sha256.
	SizeBytes int64    `json:"size_bytes"`
	SHA256    string   `json:"sha256"`
	Images    []Packed `json:"images"`
}

// Save writes the images of components into one archive, each layer once.
// Overrides are left out: an archive is loaded under the names of the set only.
// The file appears when it is whole, and replaces one of its name. It fails
// with services.NotFound when an image is not here.
func (e *Engine) Save(ctx context.Context, s Set, cs []Component, file, version string) (Saved, error) {
	m := Manifest{Format: formatNow, Flix: version}
	var refs []string
	for _, c := range cs {
		if s.Overrides[c] != "" {
			return Saved{}, services.Errorf(services.Invalid, "images save: %s stands for %s by an override", s.Overrides[c], c).
				WithRemedy("unset %s%s, or save it with docker save", overrideVariable, strings.ToUpper(string(c)))
		}
		choice, err := s.Find(ctx, e, c)
		if err != nil {
			return Saved{}, services.Wrap("images save", err)
		}
		if choice.Image == nil {
			return Saved{}, services.Errorf(services.NotFound, "images save: there is no image of %s here", c).WithReason(ReasonNoImage).
				WithRemedy("get it first: flix images pull, or flix images build --only %s", c)
		}
		m.Images = append(m.Images, Packed{Component: c, Reference: choice.Reference})
		refs = append(refs, choice.Reference)
	}
	if info, err := os.Lstat(file); err == nil && !info.Mode().IsRegular() {
		return Saved{}, services.Errorf(services.Invalid, "images save: %s is there and is no regular file", file)
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if errors.Is(err, fs.ErrNotExist) {
		return Saved{}, services.Errorf(services.Invalid, "images save: there is no folder %s for %s", filepath.Dir(file), filepath.Base(file)).
			WithRemedy("make it first: mkdir -p %s", filepath.Dir(file))
	}
	if err != nil {
		return Saved{}, services.Wrap("images save", e.translate("", err))
	}
	saved, err := e.write(ctx, f, m, refs)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return Saved{}, services.Wrap("images save", errors.Join(e.translate("", err), os.Remove(f.Name())))
	}
	saved.File = file
	return saved, nil
}

// write writes the archive. What images.tar has is known when it is written, so
// its header is written again then, and the manifest comes after it.
func (e *Engine) write(ctx context.Context, f *os.File, m Manifest, refs []string) (Saved, error) {
	header := tar.Header{Name: partName, Mode: 0o644, ModTime: time.Now().Truncate(time.Second), Format: tar.FormatGNU}
	if _, err := f.Seek(blockSize, io.SeekStart); err != nil {
		return Saved{}, err
	}
	hash := sha256.New()
	in, err := e.docker.ImageSave(ctx, refs)
	if err != nil {
		return Saved{}, err
	}
	defer in.Close()
	size, ids, err := plain(io.MultiWriter(f, hash), in)
	if err != nil {
		return Saved{}, err
	}
	for i, img := range m.Images {
		if m.Images[i].ID = ids[img.Reference]; m.Images[i].ID == "" {
			return Saved{}, fmt.Errorf("the engine did not save %s", img.Reference)
		}
	}
	header.Size = size
	m.Parts = []Part{{partName, size, hex.EncodeToString(hash.Sum(nil))}}
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return Saved{}, err
	}
	if _, err := f.Write(make([]byte, -size&(blockSize-1))); err != nil {
		return Saved{}, err
	}
	t := tar.NewWriter(f)
	if err := t.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o644, Size: int64(len(body)), ModTime: header.ModTime}); err != nil {
		return Saved{}, err
	}
	if _, err := t.Write(body); err != nil {
		return Saved{}, err
	}
	if err := t.Close(); err != nil {
		return Saved{}, err
	}
	var first bytes.Buffer
	if err := tar.NewWriter(&first).WriteHeader(&header); err != nil {
		return Saved{}, err
	}
	if first.Len() != blockSize {
		return Saved{}, fmt.Errorf("the header of %s has %d bytes", partName, first.Len())
	}
	if _, err := f.WriteAt(first.Bytes(), 0); err != nil {
		return Saved{}, err
	}
	return sum(f, m)
}

// blockSize is tar's.
const blockSize = 512

// sum reads the finished file.
func sum(f *os.File, m Manifest) (Saved, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Saved{}, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, f)
	if err != nil {
		return Saved{}, err
	}
	return Saved{SizeBytes: n, SHA256: hex.EncodeToString(hash.Sum(nil)), Images: m.Images}, f.Chmod(0o644)
}

// plain copies what an engine saves and leaves out all that loading does not
// need: links (older engines write a layer that images share once and link to
// it), and the indexes of other formats. It returns how much it wrote, and the
// id of every image by its tag.
func plain(w io.Writer, r io.Reader) (int64, map[string]string, error) {
	written := &countingWriter{w: w}
	in, out := tar.NewReader(r), tar.NewWriter(written)
	links, hashes := map[string]string{}, map[string]string{}
	var list []dockerImage
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, nil, err
		}
		switch {
		case h.Typeflag == tar.TypeSymlink:
			links[h.Name] = path.Join(path.Dir(h.Name), h.Linkname)
			continue
		case h.Typeflag == tar.TypeLink:
			links[h.Name] = path.Clean(h.Linkname)
			continue
		case h.Typeflag == tar.TypeReg && h.Name == manifestName:
			if err := json.NewDecoder(in).Decode(&list); err != nil {
				return 0, nil, fmt.Errorf("the engine's %s: %w", manifestName, err)
			}
			continue
		case h.Typeflag != tar.TypeReg || superfluous(h.Name):
			continue
		}
		if err := out.WriteHeader(&tar.Header{Name: h.Name, Mode: 0o644, Size: h.Size, ModTime: past()}); err != nil {
			return 0, nil, err
		}
		hash := sha256.New()
		if _, err := io.Copy(io.MultiWriter(out, hash), in); err != nil {
			return 0, nil, err
		}
		hashes[h.Name] = "sha256:" + hex.EncodeToString(hash.Sum(nil))
	}
	ids, err := relink(list, links, hashes)
	if err != nil {
		return 0, nil, err
	}
	body, err := json.Marshal(list)
	if err != nil {
		return 0, nil, err
	}
	if err := out.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o644, Size: int64(len(body)), ModTime: past()}); err != nil {
		return 0, nil, err
	}
	if _, err := out.Write(body); err != nil {
		return 0, nil, err
	}
	err = out.Close() // writes the end, which counts
	return written.n, ids, err
}

// superfluous says that a file of an engine's archive serves other formats only.
func superfluous(name string) bool {
	switch path.Base(name) {
	case "repositories", "index.json", "oci-layout", "VERSION", "json":
		return true
	}
	return false
}

// relink names layers by where they are, not by links to there, and returns
// every image's id, which is its configuration's hash.
func relink(list []dockerImage, links, hashes map[string]string) (map[string]string, error) {
	ids := map[string]string{}
	for i := range list {
		for j, l := range list[i].Layers {
			if to, ok := links[l]; ok {
				list[i].Layers[j] = to
			}
			if hashes[list[i].Layers[j]] == "" {
				return nil, fmt.Errorf("the engine saved an image without its layer %s", l)
			}
		}
		for _, tag := range list[i].RepoTags {
			ids[tag] = hashes[list[i].Config]
		}
	}
	return ids, nil
}

// countingWriter counts what is written.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
