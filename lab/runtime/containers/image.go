package containers

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/topology"
)

// imageName is what flix's own images are called; the tag is the digest of
// what is in them.
const imageName = "flix/lab"

// component names the image of a component, as the topology or else the
// environment wants it, and sees to it that the engine has it.
func (r *Runtime) component(ctx context.Context, c images.Component) (string, error) {
	return imageSet(r.c.Getenv, r.c.Declared()).Resolve(ctx, images.NewEngine(r.docker), c)
}

// imageSet is the set of images that the environment and, over it, the
// topology ask for.
func imageSet(getenv func(string) string, declared topology.Containers) images.Set {
	set := images.FromEnv(getenv)
	if declared.Registry != "" {
		set.Prefix = declared.Registry
	}
	for name, ref := range declared.Images {
		set.Overrides[images.Component(name)] = ref
	}
	return set
}

// ownImage is an image of flix's own: its binary on top of another image.
type ownImage struct {
	tag, base string

	mu    sync.Mutex // held while it is made
	there bool
}

// program is this very binary.
func (r *Runtime) program() ([]byte, error) {
	binary, err := os.ReadFile(r.c.Exe)
	if err != nil {
		return nil, fmt.Errorf("the image of flix: %w", err)
	}
	return binary, nil
}

// nameImages settles what flix's own containers are made of, without making it:
// an image of a binary, and the transcoder's, which is the same on top of one that
// brings ffmpeg.
func (r *Runtime) nameImages(ctx context.Context, binary []byte) error {
	base, err := r.component(ctx, images.FFmpeg)
	if err != nil {
		return err
	}
	_, own := imageOf(scratch, binary)
	_, codec := imageOf(base, binary)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.image, r.codecImage = &ownImage{tag: own, base: scratch}, &ownImage{tag: codec, base: base}
	return nil
}

// settleImages names the images, once, for one who makes containers of them: the
// binary must be able to run there.
func (r *Runtime) settleImages(ctx context.Context) error {
	r.mu.Lock()
	settled := r.image != nil
	r.mu.Unlock()
	if settled {
		return nil
	}
	binary, err := r.program()
	if err != nil {
		return err
	}
	if err := static(binary); err != nil {
		return err
	}
	return r.nameImages(ctx, binary)
}

// imageFor sees to it that the engine has the image of a declaration, if that
// is one of flix's own. The stores' start does not wait for it.
func (r *Runtime) imageFor(ctx context.Context, d declaration) error {
	r.mu.Lock()
	all := []*ownImage{r.image, r.codecImage}
	r.mu.Unlock()
	for _, i := range all {
		if d.Serves && i != nil && i.tag == d.Image {
			return r.ensure(ctx, i)
		}
	}
	return nil
}

// ensure makes an image of flix's own, unless the engine has it.
func (r *Runtime) ensure(ctx context.Context, i *ownImage) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.there {
		return nil
	}
	_, err := r.docker.ImageInspect(ctx, i.tag)
	switch {
	case errdefs.IsNotFound(err):
		err = r.makeImage(ctx, i)
	case err == nil:
		err = r.c.Journal.Put(journal.Image, i.tag, struct{}{})
	default:
		err = fmt.Errorf("image %s: %w", i.tag, r.broken(err))
	}
	i.there = err == nil
	return err
}

// makeImage makes an image of the binary as it is now.
func (r *Runtime) makeImage(ctx context.Context, i *ownImage) error {
	binary, err := r.program()
	if err != nil {
		return err
	}
	dockerfile, tag := imageOf(i.base, binary)
	if tag != i.tag {
		r.forgetImages()
		return services.Errorf(services.Conflict, "%s has changed while containers of it were made", r.c.Exe).WithRemedy("run the command again")
	}
	if err := r.c.Journal.Put(journal.Image, tag, struct{}{}); err != nil {
		return err
	}
	if i.base == scratch {
		err = r.importImage(ctx, tag, binary)
	} else {
		err = r.buildImage(ctx, tag, dockerfile, binary)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", tag, r.broken(err))
	}
	return nil
}

// forgetImages has the images named anew: they are gone, or would be others.
func (r *Runtime) forgetImages() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.image, r.codecImage = nil, nil
}

// static refuses a binary that needs a dynamic linker: the image has none.
func static(binary []byte) error {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return services.Errorf(services.Unavailable, "this flix is no Linux binary (%v)", err).WithRemedy("the containers runtime needs a flix built for Linux: make build")
	}
	if dynamic(f) {
		return services.Errorf(services.Unavailable, "this flix is linked dynamically and cannot run in an image without a system").WithRemedy("build it static: CGO_ENABLED=0 go build ./cmd/flix, or make build")
	}
	return nil
}

// dynamic says whether a program needs a dynamic linker. It closes the file.
func dynamic(f *elf.File) bool {
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}

// binaryPath is where flix lies in its images.
const binaryPath = "usr/local/bin/flix"

// scratch is the base that is nothing.
const scratch = "scratch"

// labelImage marks the images of flix's own, the unfinished ones too.
const labelImage = "lab.flix.image"

// imageOf returns what the image of a binary on top of another is made of, and
// its tag. The label comes first, so that what a build that was cut short
// leaves has it; the command comes with the container: an instruction more is
// an image more that the engine keeps.
func imageOf(base string, binary []byte) (dockerfile, tag string) {
	dockerfile = fmt.Sprintf("FROM %s\nLABEL %s=1\nCOPY %s /%s\n", base, labelImage, binaryPath, binaryPath)
	h := sha256.New()
	h.Write([]byte(dockerfile))
	h.Write(binary)
	return dockerfile, imageName + ":" + hex.EncodeToString(h.Sum(nil)[:6])
}

// importImage makes an image of nothing but flix: one request, one layer, and
// nothing half made when it is cut short.
func (r *Runtime) importImage(ctx context.Context, tag string, binary []byte) error {
	body := archive(entry{binaryPath, 0o755, binary})
	defer body.Close()
	res, err := r.docker.ImageImport(ctx, client.ImageImportSource{Source: body, SourceName: "-"}, tag, client.ImageImportOptions{
		Changes: []string{"LABEL " + labelImage + "=1"},
	})
	if err != nil {
		return err
	}
	defer res.Close()
	return built(res)
}

func (r *Runtime) buildImage(ctx context.Context, tag, dockerfile string, binary []byte) error {
	body := archive(entry{"Dockerfile", 0o644, []byte(dockerfile)}, entry{binaryPath, 0o755, binary})
	defer body.Close()
	res, err := r.docker.ImageBuild(ctx, body, client.ImageBuildOptions{Tags: []string{tag}, Remove: true, ForceRemove: true, Dockerfile: "Dockerfile"})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return built(res.Body)
}

// entry is a file of an archive.
type entry struct {
	name string
	mode int64
	data []byte
}

// archive is a tar of files that is written while it is read. Close it.
func archive(files ...entry) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() { // ends when all is read, or with the reader
		w := tar.NewWriter(pw)
		for _, f := range files {
			err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data))})
			if err == nil {
				_, err = w.Write(f.data)
			}
			if err != nil {
				pw.CloseWithError(err)
				return
			}
		}
		pw.CloseWithError(w.Close())
	}()
	return pr
}

// built reads the engine's report of a build to its end.
func built(report io.Reader) error {
	d := json.NewDecoder(report)
	for {
		var line struct {
			Error string `json:"error"`
		}
		err := d.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}

// Missing says why a lab cannot run in containers here without getting
// anything first; "" when it can: an engine answers and has every image.
func Missing(ctx context.Context, getenv func(string) string, exe string, declared topology.Containers) string {
	engine, err := images.Open(ctx, getenv)
	if err != nil {
		return "no Docker engine of this machine answers"
	}
	defer engine.Close()
	if f, err := elf.Open(exe); err != nil || dynamic(f) {
		return "this flix is not a static Linux binary: make build"
	}
	set := imageSet(getenv, declared)
	for _, c := range images.Components() {
		found, err := set.Find(ctx, engine, c)
		if err != nil || found.Image == nil {
			return fmt.Sprintf("the image of %s is not here: flix images pull, or flix images build", c)
		}
	}
	return ""
}
