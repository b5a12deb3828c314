package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// Load puts the images of an archive on the engine. All of it is checked before
// the engine sees any: its hash if sum is not empty, the hash of each part and
// image, and that nothing would be loaded under a name that is not the set's.
// It fails with services.Invalid when something is wrong, and then nothing was
// loaded. Idempotent.
func (e *Engine) Load(ctx context.Context, s Set, file, sum string) (Manifest, error) {
	const op = "images load"
	sum = strings.TrimPrefix(sum, "sha256:")
	if b, err := hex.DecodeString(sum); err != nil || len(b) != 0 && len(b) != sha256.Size {
		return Manifest{}, services.Wrap(op, services.Errorf(services.Invalid, "--sha256: %q is not 64 hexadecimal digits", sum))
	}
	f, err := open(file)
	if err != nil {
		return Manifest{}, services.Wrap(op, err)
	}
	defer f.Close()
	m, offset, err := inspectArchive(&cancellable{ctx, f}, sum, s.owns)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Manifest{}, services.Wrap(op+" "+file, err)
	}
	part := m.Parts[0]
	guarded := &guard{r: io.NewSectionReader(f, offset, part.Size), left: part.Size, hash: sha256.New(), want: part.SHA256}
	res, err := e.docker.ImageLoad(ctx, guarded, client.ImageLoadWithQuiet(true))
	if err == nil {
		err = drain(res, nil)
	}
	if err != nil {
		return Manifest{}, services.Wrap(op+" "+file, errors.Join(guarded.err, e.translate("", err)))
	}
	for _, p := range m.Images {
		img, err := e.Inspect(ctx, p.Reference)
		if err != nil {
			return m, services.Wrap(op, err)
		}
		// An engine that keeps images in containerd has ids of its own kind, so
		// the id alone tells nothing there; that the image is there does.
		if img.Architecture == "" {
			return m, services.Wrap(op, services.Errorf(services.Internal, "%s was loaded and is no image", p.Reference))
		}
	}
	return m, nil
}

// owns says whether an archive may carry a component's image under a name.
func (s Set) owns(c Component, ref string) bool {
	p, err := pinOf(c)
	return err == nil && (ref == p.built || ref == p.official || ref == s.Official(c))
}

// open opens a regular file.
func open(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &services.Error{Kind: services.NotFound, Err: err}
	case err != nil:
		return nil, &services.Error{Kind: services.Denied, Err: err}
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(services.Errorf(services.Invalid, "%s is no regular file", file), f.Close())
	}
	return f, nil
}

// cancellable ends reading with its context.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// guard hands a part over as it was checked: it withholds the end until the
// hash of all of it is right, so that an engine sees no whole archive of a file
// that was changed in between.
type guard struct {
	r    io.Reader
	left int64
	hash hash.Hash
	want string
	held []byte
	err  error
}

// heldBack is how much is withheld, in bytes: the end of a tar, of at most three
// blocks, and some of what comes before it, which is the manifest of the images.
const heldBack = 4 * blockSize

func (g *guard) Read(p []byte) (int, error) {
	switch {
	case g.err != nil:
		return 0, g.err
	case g.left > heldBack:
		n, err := g.r.Read(p[:min(int64(len(p)), g.left-heldBack)])
		_, _ = g.hash.Write(p[:n]) // a hash takes everything
		g.left -= int64(n)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		g.err = err
		return n, err
	case g.left > 0:
		g.held = make([]byte, g.left)
		if _, err := io.ReadFull(g.r, g.held); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			g.err = err
			return 0, err
		}
		_, _ = g.hash.Write(g.held)
		g.left = 0
		if hex.EncodeToString(g.hash.Sum(nil)) != g.want {
			g.err = bad("the file was changed while it was read")
			return 0, g.err
		}
	}
	if len(g.held) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.held)
	g.held = g.held[n:]
	return n, nil
}
