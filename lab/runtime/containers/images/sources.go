package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// mavenSettings are none: a user's mirrors and credentials are none of the
// images' business.
const mavenSettings = `<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"/>
`

// libraries puts the jars that a recipe's pom.xml names into its folder.
func (b *build) libraries(ctx context.Context, r recipe) error {
	dir := filepath.Join(b.dir, "maven-"+r.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	pom, err := contexts.ReadFile(path.Join("context", r.name, "pom.xml"))
	if err != nil {
		return err
	}
	settings := filepath.Join(dir, "settings.xml")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o600), os.WriteFile(settings, []byte(mavenSettings), 0o600)); err != nil {
		return err
	}
	return b.command(ctx, dir, false, nil, "mvn", "-B", "-q", "-ntp", "-s", settings,
		"org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+b.lib(r))
}

// lib is the folder of a recipe's jars.
func (b *build) lib(r recipe) string { return filepath.Join(b.dir, "lib-"+r.name) }

// program makes the Go program of a recipe, static.
func (b *build) program(ctx context.Context, r recipe) error {
	if err := os.Mkdir(b.bin(r), 0o700); err != nil {
		return err
	}
	return b.command(ctx, b.dir, false, []string{"GOBIN=" + b.bin(r), "CGO_ENABLED=0", "GOFLAGS="}, "go", "install", "-trimpath", "-ldflags=-s -w", r.module)
}

// bin is the folder of a recipe's program.
func (b *build) bin(r recipe) string { return filepath.Join(b.dir, "bin-"+r.name) }

// debian makes the first base.
func (b *build) debian(ctx context.Context, r recipe) error {
	root := filepath.Join(b.dir, "root")
	if err := b.command(ctx, b.dir, true, nil, "debootstrap", "--variant=minbase", "--include="+debianPackages, debianSuite, root); err != nil {
		return err
	}
	changes := []string{`CMD ["bash"]`}
	for k, v := range b.labels(r) {
		changes = append(changes, fmt.Sprintf("LABEL %s=%s", k, v))
	}
	in, err := b.tarOf(ctx, root)
	if err != nil {
		return err
	}
	res, err := b.engine.docker.ImageImport(ctx, client.ImageImportSource{Source: struct{ io.Reader }{in}, SourceName: "-"}, r.tag, client.ImageImportOptions{Changes: changes})
	if err == nil {
		err = drain(res, nil)
	}
	return errors.Join(b.engine.translate("import", err), in.Close(), os.RemoveAll(root))
}

// tarred is the output of a tar that runs.
type tarred struct {
	io.ReadCloser
	wait func() error
}

// Close ends tar, if it still runs, and returns what went wrong with it.
func (t *tarred) Close() error { return errors.Join(t.ReadCloser.Close(), t.wait()) }

// tarOf is a tree as an archive, with everything tar knows of owners and links,
// and without what debootstrap downloaded.
func (b *build) tarOf(ctx context.Context, root string) (io.ReadCloser, error) {
	file, err := lookPath("tar", b.o.Environ)
	if err != nil {
		return nil, err
	}
	var out last
	cmd := exec.CommandContext(ctx, file, "-C", root, "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./debootstrap",
		"--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/cache/apt/*.bin", "--exclude=./var/lib/apt/lists/*", "--exclude=./var/log/*.log", "-c", ".")
	cmd.Stderr, cmd.Env = &out, b.o.Environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is ours to pass on
	cmd.WaitDelay = 5 * time.Second
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &tarred{pipe, func() error {
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			return failed("tar", err, &out)
		}
		return nil
	}}, nil
}

// dockerfile makes an image from its context.
func (b *build) dockerfile(ctx context.Context, r recipe) error {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(b.writeContext(writer, r)) }()
	defer reader.Close()
	res, err := b.engine.docker.ImageBuild(ctx, reader, client.ImageBuildOptions{
		Tags: []string{r.tag}, Labels: b.labels(r), Remove: true, ForceRemove: true,
		BuildArgs: map[string]*string{"BASE": &r.base, "BUILD": &b.id},
	})
	if err != nil {
		return b.engine.translate("build", err)
	}
	var out last
	if err := drain(res.Body, func(s string) { _, _ = out.Write([]byte(s)) }); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var known *services.Error
		if err := b.engine.translate("build", err); errors.As(err, &known) && known.Kind != services.Internal {
			return err
		}
		return failed("the build of "+r.tag, err, &out)
	}
	return nil
}
