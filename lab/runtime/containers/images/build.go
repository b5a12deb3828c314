package images

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
)

// BuildOptions say what to build, and how.
type BuildOptions struct {
	// Only are the components to build; none means all.
	Only []Component
	// Force builds what has not changed, too, down to the bases.
	Force bool
	// TempDir holds what is made on the way, about 1 GiB, until the end of the
	// build; empty for the system's.
	TempDir string
	// Environ is what the tools run with: os.Environ().
	Environ []string
	// Progress is called when a step begins and when it ends, by one goroutine
	// at a time; nil for nobody.
	Progress func(Step)
}

// Step is a part of a build.
type Step struct {
	// Name is the image, or the tool that makes something for it, e.g. "kafka",
	// "maven kafka".
	Name string
	// Text says what is done or was done.
	Text string
	// Done marks the end of a step, after Took.
	Done bool
	Took time.Duration
}

// Made is the result of a build for one image.
type Made struct {
	Component Component `json:"component,omitempty"`
	Reference string    `json:"reference"`
	// Changed is false where the image here was made from the same already.
	Changed bool    `json:"changed"`
	TookS   float64 `json:"took_s"`
}

// Build makes the images of components out of Debian and Maven packages, each
// under its tag flix/…, with the bases they stand on. What is here already,
// made from the same recipe, is left alone. It needs debootstrap and root for
// the base, mvn for the servers in Java, and go for the S3 server, and fails
// with services.Conflict and a remedy, before it does anything, where one is
// missing.
//
// When it fails or is cancelled, images that were finished stay, and nothing
// half made does: no folder, container, mount or untagged image.
func (e *Engine) Build(ctx context.Context, o BuildOptions) ([]Made, error) {
	if len(o.Only) == 0 {
		o.Only = Components()
	}
	all, err := recipes()
	if err != nil {
		return nil, services.Wrap("images build", err)
	}
	plan, err := wanted(all, o.Only)
	if err != nil {
		return nil, err
	}
	b := &build{engine: e, o: o, id: strings.ToLower(rand.Text()), started: map[string]time.Time{}}
	todo, err := b.outdated(ctx, plan)
	if err != nil {
		return nil, err
	}
	if err := checkTools(todo, o.Environ); err != nil {
		return nil, err
	}
	if len(todo) > 0 {
		// What waits for a compiler comes last.
		slices.SortStableFunc(todo, func(x, y recipe) int { return strings.Compare(x.module, y.module) })
		if b.dir, err = os.MkdirTemp(o.TempDir, "flix-images-"); err != nil {
			return nil, services.Wrap("images build", err)
		}
		err = b.run(ctx, todo)
		err = errors.Join(err, b.sweep(ctx), os.RemoveAll(b.dir))
	}
	var out []Made
	for _, r := range plan {
		m := Made{Reference: r.tag}
		if slices.Contains(Components(), Component(r.name)) {
			m.Component = Component(r.name)
		}
		if took, ok := b.took[r.tag]; ok {
			m.Changed, m.TookS = true, took.Seconds()
		}
		if m.Changed || !slices.ContainsFunc(todo, func(t recipe) bool { return t.tag == r.tag }) {
			out = append(out, m)
		}
	}
	return out, err
}

// build is one run.
type build struct {
	engine *Engine
	o      BuildOptions
	id     string
	dir    string

	progress progress
	started  map[string]time.Time
	took     map[string]time.Duration
}

// outdated are the recipes whose image is missing or made from something else.
func (b *build) outdated(ctx context.Context, plan []recipe) ([]recipe, error) {
	var out []recipe
	for _, r := range plan {
		img, err := b.engine.Inspect(ctx, r.tag)
		switch {
		case err != nil && services.KindOf(err) != services.NotFound:
			return nil, services.Wrap("images build", err)
		case b.o.Force || err != nil || img.Labels[contentLabel] != r.content:
			out = append(out, r)
		}
	}
	return out, nil
}

// run fetches what the images are made of while the bases are made, then makes
// the images one after another: two at a time would share the same processors
// and the engine's one disk.
func (b *build) run(ctx context.Context, todo []recipe) error {
	b.took = map[string]time.Duration{}
	fetched := make([]chan struct{}, len(todo))
	for i := range todo {
		fetched[i] = make(chan struct{})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // Maven's local repository takes one at a time
		for i, r := range todo {
			if r.maven {
				if err := b.step("maven "+r.name, "libraries", func() error { return b.libraries(ctx, r) }); err != nil {
					return err
				}
			}
			if r.module == "" {
				close(fetched[i])
			}
		}
		return nil
	})
	for i, r := range todo {
		if r.module == "" {
			continue
		}
		g.Go(func() error {
			defer close(fetched[i])
			return b.step("go "+r.name, r.module, func() error { return b.program(ctx, r) })
		})
	}
	g.Go(func() error {
		for i, r := range todo {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-fetched[i]:
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			begin := time.Now()
			if err := b.step(r.name, r.tag, func() error { return b.image(ctx, r) }); err != nil {
				return err
			}
			b.took[r.tag] = time.Since(begin)
		}
		return nil
	})
	return g.Wait()
}

// step runs f and tells of it.
func (b *build) step(name, text string, f func() error) error {
	begin := time.Now()
	b.progress.tell(b.o.Progress, Step{Name: name, Text: text})
	if err := f(); err != nil {
		return services.Wrap("images build: "+name, err)
	}
	b.progress.tell(b.o.Progress, Step{Name: name, Text: text, Done: true, Took: time.Since(begin)})
	return nil
}

// image makes one image and drops the one that had its tag before.
func (b *build) image(ctx context.Context, r recipe) error {
	old, err := b.engine.Inspect(ctx, r.tag)
	if err != nil && services.KindOf(err) != services.NotFound {
		return err
	}
	if r.base == "" {
		err = b.debian(ctx, r)
	} else {
		err = b.dockerfile(ctx, r)
	}
	if err != nil {
		return err
	}
	return b.engine.forget(ctx, old.ID)
}

// labels of a finished image.
func (b *build) labels(r recipe) map[string]string {
	return map[string]string{contentLabel: r.content, versionLabel: r.version, buildLabel: b.id}
}

// sweepTimeout is how long the engine may take to end what was cancelled.
const sweepTimeout = 20 * time.Second

// sweep removes what this run left: the containers and untagged images of a
// build that did not end. The engine goes on for a moment after its client has
// gone, so it is looked at until nothing is left. Then finished images go that
// have lost their tag to newer ones while containers ran from them.
func (b *build) sweep(ctx context.Context) error {
	quiet := 1
	if ctx.Err() != nil {
		quiet = 5 // a step may be about to begin
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		containers, err := b.sweepContainers(ctx)
		if err != nil {
			return err
		}
		untagged, err := b.sweepImages(ctx, buildLabel+"="+b.id)
		if err != nil {
			return err
		}
		if containers+untagged == 0 {
			if quiet--; quiet == 0 {
				break
			}
		}
		select {
		case <-ctx.Done():
			return services.Errorf(services.Unavailable, "%d containers and %d untagged images of the build are left", containers, untagged).
				WithRemedy("remove them: docker container prune; docker image prune")
		case <-tick.C:
		}
	}
	_, err := b.sweepImages(ctx, contentLabel)
	return err
}

// sweepContainers removes the containers of steps of this run and returns how
// many there were. They have their label from the image they run; who runs a
// finished one has a tag for it.
func (b *build) sweepContainers(ctx context.Context) (int, error) {
	list, err := b.engine.docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", buildLabel+"="+b.id)})
	if err != nil {
		return 0, b.engine.translate("remove what is half made", err)
	}
	n := 0
	for _, c := range list.Items {
		img, err := b.engine.docker.ImageInspect(ctx, c.ImageID)
		if err != nil || len(img.RepoTags) > 0 {
			continue
		}
		n++
		_, err = b.engine.docker.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		err = b.engine.translate("remove container "+c.ID, err)
		if k := services.KindOf(err); err != nil && k != services.NotFound && k != services.Conflict { // the engine is at it
			return n, err
		}
	}
	return n, nil
}

// sweepImages removes the untagged images of a label and returns how many there
// were.
func (b *build) sweepImages(ctx context.Context, label string) (int, error) {
	list, err := b.engine.docker.ImageList(ctx, client.ImageListOptions{Filters: make(client.Filters).Add("dangling", "true").Add("label", label)})
	if err != nil {
		return 0, b.engine.translate("remove what is half made", err)
	}
	var errs []error
	for _, img := range list.Items {
		errs = append(errs, b.engine.forget(ctx, img.ID))
	}
	return len(list.Items), errors.Join(errs...)
}

// forget removes an image that has no tag any more. One that a container still
// uses, or another image stands on, is left to them.
func (e *Engine) forget(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	r, err := e.docker.ImageInspect(ctx, id)
	if err == nil && len(r.RepoTags) == 0 {
		_, err = e.docker.ImageRemove(ctx, id, client.ImageRemoveOptions{PruneChildren: true})
	}
	err = e.translate("remove image "+id, err)
	if k := services.KindOf(err); err != nil && (k == services.NotFound || k == services.Conflict) {
		return nil
	}
	return err
}

// last keeps the end of what a tool prints, for the error it ends with.
type last struct{ b []byte }

const lastBytes = 2 << 10

func (l *last) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if n := len(l.b) - lastBytes; n > 0 {
		l.b = append(l.b[:0], l.b[n:]...)
	}
	return len(p), nil
}

func (l *last) String() string {
	// The engine colours what a build prints to its standard error.
	text := strings.NewReplacer("\x1b[91m", "", "\x1b[0m", "").Replace(string(l.b))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// failed is the error of a tool.
func failed(what string, err error, l *last) error {
	return &services.Error{Kind: services.Internal, Msg: fmt.Sprintf("%s failed; its last lines:\n%s\n", what, l), Err: err}
}
