package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
)

// An archive is a tar of two files: images.tar, what the engine loads, and
// manifest.json, which says what that holds and what its hash is.
const (
	partName     = "images.tar"
	manifestName = "manifest.json"
	formatNow    = 1
)

// Bounds of an archive that is read.
const (
	// MaxArchive is the most an archive may have, in bytes.
	MaxArchive  = 16 << 30
	maxManifest = 1 << 20
	maxEntries  = 4096
	maxName     = 256
)

// Manifest is what an archive says of itself.
type Manifest struct {
	Format int `json:"format"`
	// Flix is the version that wrote it.
	Flix   string   `json:"flix"`
	Images []Packed `json:"images"`
	Parts  []Part   `json:"parts"`
}

// Packed is an image in an archive.
type Packed struct {
	Component Component `json:"component"`
	Reference string    `json:"reference"`
	// ID is the hash of the image's configuration, which has those of its
	// layers.
	ID string `json:"id"`
}

// Part is a file in an archive.
type Part struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// dockerImage is an entry of the manifest.json that an engine saves and loads.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// bad is the error of an archive that is not to be loaded.
func bad(format string, args ...any) error {
	return services.Errorf(services.Invalid, format, args...).WithReason("bad_archive").WithRemedy("make it anew where the images are: flix images save FILE")
}

// checked is an entry of a tar that may be read: a regular file of a plain
// relative name.
func checked(h *tar.Header) error {
	switch {
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
		return bad("%.80q is neither a file nor a folder: links and devices are refused", h.Name)
	case slices.ContainsFunc(slices.Collect(maps.Keys(h.PAXRecords)), func(k string) bool { return strings.HasPrefix(k, "GNU.sparse") }):
		return bad("%.80q is sparse: it would hold more than the archive", h.Name)
	case h.Mode&0o6000 != 0:
		return bad("%.80q is setuid or setgid", h.Name)
	case h.Size < 0 || h.Size > MaxArchive:
		return bad("%.80q has %d bytes", h.Name, h.Size)
	case len(h.Name) > maxName || h.Name == "" || path.IsAbs(h.Name) || strings.ContainsAny(h.Name, "\\\x00") || path.Clean(h.Name) != strings.TrimSuffix(h.Name, "/") || h.Name == ".." || strings.HasPrefix(h.Name, "../"):
		return bad("%.80q is no plain relative name", h.Name)
	}
	return nil
}

// each calls f for every file of a tar, each name once.
func each(r io.Reader, f func(h *tar.Header, body io.Reader) error) error {
	t := tar.NewReader(r)
	seen := map[string]bool{}
	for {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return bad("not a whole tar: %v", err)
		}
		if err := checked(h); err != nil {
			return err
		}
		name := strings.TrimSuffix(h.Name, "/")
		if seen[name] {
			return bad("%.80q is in it twice", h.Name)
		}
		if seen[name] = true; len(seen) > maxEntries {
			return bad("more than %d entries", maxEntries)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if err := f(h, t); err != nil {
			return err
		}
	}
}

// inspectArchive reads an archive to its end and returns its manifest, and where
// images.tar begins. It fails with services.Invalid unless all of it is as
// Save writes it, with tags that may be loaded; sum is the hash the whole file
// must have, "" for any.
func inspectArchive(r io.Reader, sum string, allowed func(Component, string) bool) (Manifest, int64, error) {
	whole := sha256.New()
	counted := &counter{r: io.TeeReader(io.LimitReader(r, MaxArchive+1), whole)}
	var m Manifest
	var part Part
	var packed []Packed
	var offset int64
	err := each(counted, func(h *tar.Header, body io.Reader) error {
		switch h.Name {
		case partName:
			hash := sha256.New()
			offset = counted.n
			var err error
			packed, err = inspectImages(io.TeeReader(body, hash), h.Size)
			part = Part{Name: partName, Size: h.Size, SHA256: hex.EncodeToString(hash.Sum(nil))}
			return err
		case manifestName:
			return decode(body, h.Size, &m)
		}
		return bad("%.80q does not belong there", h.Name)
	})
	if err != nil {
		return m, 0, err
	}
	if _, err := io.Copy(io.Discard, counted); err != nil { // what follows the tar's end counts for the hash
		return m, 0, bad("not a whole file: %v", err)
	}
	if counted.n > MaxArchive {
		return m, 0, bad("more than %d bytes", int64(MaxArchive))
	}
	if got := hex.EncodeToString(whole.Sum(nil)); sum != "" && !strings.EqualFold(got, strings.TrimPrefix(sum, "sha256:")) {
		return m, 0, bad("its SHA-256 is %s, not %s", got, sum)
	}
	return m, offset, agree(m, part, packed, allowed)
}

// agree checks the manifest against what is there.
func agree(m Manifest, part Part, packed []Packed, allowed func(Component, string) bool) error {
	switch {
	case m.Format == 0 || part.Name == "":
		return bad("it lacks %s or %s", manifestName, partName)
	case m.Format != formatNow:
		return bad("its format is %d; this flix reads %d", m.Format, formatNow)
	case !slices.Equal(m.Parts, []Part{part}):
		return bad("%s is damaged: its SHA-256 is %s, and its manifest says otherwise", partName, part.SHA256)
	case len(m.Images) == 0 || len(m.Images) != len(packed):
		return bad("it holds %d images, and its manifest tells of %d", len(packed), len(m.Images))
	}
	for _, p := range m.Images {
		if !allowed(p.Component, p.Reference) {
			return bad("it would load %.80q, which is no image of the set", p.Reference)
		}
		if !slices.ContainsFunc(packed, func(q Packed) bool { return q.Reference == p.Reference && q.ID == p.ID }) {
			return bad("%s is not in it, or another image under that name", p.Reference)
		}
	}
	for _, q := range packed {
		if !slices.ContainsFunc(m.Images, func(p Packed) bool { return q.Reference == p.Reference }) {
			return bad("it holds %.80q, which its manifest does not tell of", q.Reference)
		}
	}
	return nil
}

// inspectImages reads what an engine is to load: every image's tag and id.
// Nothing may be in it but the configurations and layers its manifest.json
// names.
func inspectImages(r io.Reader, size int64) ([]Packed, error) {
	var list []dockerImage
	configs, layers := map[string]string{}, map[string]bool{}
	err := each(r, func(h *tar.Header, body io.Reader) error {
		if h.Name == manifestName {
			return decode(body, h.Size, &list)
		}
		// A configuration is hashed; what is larger than one is a layer.
		hash := sha256.New()
		if _, err := io.Copy(hash, body); err != nil {
			return bad("not a whole tar: %v", err)
		}
		layers[h.Name] = true
		if h.Size <= maxManifest {
			configs[h.Name] = "sha256:" + hex.EncodeToString(hash.Sum(nil))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, bad("%s of %d bytes is not whole: %v", partName, size, err)
	}
	used := map[string]bool{}
	var out []Packed
	for _, img := range list {
		id, ok := configs[img.Config]
		if !ok || len(img.RepoTags) != 1 || len(img.Layers) == 0 {
			return nil, bad("an image in it lacks its configuration, its layers or its one tag")
		}
		used[img.Config] = true
		for _, l := range img.Layers {
			if !layers[l] {
				return nil, bad("the layer %.80q is not in it", l)
			}
			used[l] = true
		}
		out = append(out, Packed{Reference: img.RepoTags[0], ID: id})
	}
	for name := range layers {
		if !used[name] {
			return nil, bad("%.80q does not belong in %s", name, partName)
		}
	}
	return out, nil
}

// decode reads a small JSON file.
func decode(r io.Reader, size int64, v any) error {
	if size > maxManifest {
		return bad("its manifest has %d bytes", size)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return bad("not a whole tar: %v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(v); err != nil {
		return bad("its manifest is no JSON of the kind: %v", err)
	}
	return nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
