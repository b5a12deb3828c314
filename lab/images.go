package lab

import (
	"context"

	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/services"
)

// What "flix images" shows.
type (
	// ImageRow is one image of the set.
	ImageRow = images.Row
	// ImageVerdict is what a check of one image found.
	ImageVerdict = images.Verdict
	// ImageStep is a part of a build.
	ImageStep = images.Step
	// ImageMade is one image of a build.
	ImageMade = images.Made
	// ImagesSaved is an archive that was written.
	ImagesSaved = images.Saved
	// ImagesLoaded is an archive that was loaded.
	ImagesLoaded = images.Manifest
)

// Images are those of the containers runtime, on the Docker engine of this
// machine.
type Images struct {
	env    Env
	engine *images.Engine
	set    images.Set
}

// OpenImages connects to the engine; see images.Open for its errors. Close it.
func OpenImages(ctx context.Context, env Env) (*Images, error) {
	e, err := images.Open(ctx, env.Getenv)
	if err != nil {
		return nil, services.Wrap("images", err)
	}
	return &Images{env, e, images.FromEnv(env.Getenv)}, nil
}

// Close closes the connection to the engine.
func (i *Images) Close() error { return i.engine.Close() }

// ImageComponents are the names of the components.
func ImageComponents() []string {
	var out []string
	for _, c := range images.Components() {
		out = append(out, string(c))
	}
	return out
}

// List shows the image that stands for every component.
func (i *Images) List(ctx context.Context) ([]ImageRow, error) {
	return images.List(ctx, i.engine, i.set)
}

// Pull gets the official images of components (none: all), and calls begin
// before each.
func (i *Images) Pull(ctx context.Context, components []string, begin func(component, reference string)) error {
	cs, err := images.Parse(components)
	if err != nil {
		return err
	}
	return images.Pull(ctx, i.engine, i.set, cs, func(c images.Component, ref string) { begin(string(c), ref) })
}

// Build makes images of components (none: all) from packages; force makes those
// that have not changed, too. progress is called by one goroutine at a time.
func (i *Images) Build(ctx context.Context, components []string, force bool, progress func(ImageStep)) ([]ImageMade, error) {
	cs, err := images.Parse(components)
	if err != nil {
		return nil, err
	}
	return i.engine.Build(ctx, images.BuildOptions{Only: cs, Force: force, TempDir: i.env.TempDir, Environ: i.env.Environ, Progress: progress})
}

// Save writes the images of components (none: all) into one file.
func (i *Images) Save(ctx context.Context, components []string, file string) (ImagesSaved, error) {
	cs, err := images.Parse(components)
	if err != nil {
		return ImagesSaved{}, err
	}
	return i.engine.Save(ctx, i.set, cs, file, i.env.Version)
}

// Load loads such a file, after it was checked in full. sum is the SHA-256 it
// must have, in hexadecimal; empty for any.
func (i *Images) Load(ctx context.Context, file, sum string) (ImagesLoaded, error) {
	return i.engine.Load(ctx, i.set, file, sum)
}

// Verify checks the images of components (none: all), and with start that a
// container of each answers; begin is called before each of those.
func (i *Images) Verify(ctx context.Context, components []string, start bool, begin func(component string)) ([]ImageVerdict, error) {
	cs, err := images.Parse(components)
	if err != nil {
		return nil, err
	}
	return i.engine.Verify(ctx, i.set, cs, start, func(c images.Component) { begin(string(c)) })
}
