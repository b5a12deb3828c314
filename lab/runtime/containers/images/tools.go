package images

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/flix-lab/flix/services"
)

// tool is a program that a build runs.
type tool struct {
	name   string
	remedy string
	needed func(recipe) bool
}

func tools() []tool {
	return []tool{
		{"debootstrap", "install it: apt-get install debootstrap", func(r recipe) bool { return r.base == "" }},
		{"tar", "install it: apt-get install tar", func(r recipe) bool { return r.base == "" }},
		{"mvn", "install it: apt-get install maven", func(r recipe) bool { return r.maven }},
		{"go", "install Go 1.24 or later: https://go.dev/dl", func(r recipe) bool { return r.module != "" }},
	}
}

// checkTools fails where a tool of the recipes is missing, or root.
func checkTools(rs []recipe, environ []string) error {
	var errs []error
	for _, t := range tools() {
		for _, r := range rs {
			if !t.needed(r) {
				continue
			}
			if _, err := lookPath(t.name, environ); err != nil {
				errs = append(errs, services.Errorf(services.Conflict, "the image %s is made with %s, which is not on PATH", r.tag, t.name).
					WithReason("no_tool").WithRemedy("%s; or get the images made elsewhere: flix images load FILE", t.remedy))
			}
			break
		}
	}
	for _, r := range rs {
		if r.base == "" && os.Geteuid() != 0 {
			errs = append(errs, services.Errorf(services.Denied, "the image %s is made with debootstrap, which needs root", r.tag).
				WithReason("not_root").WithRemedy("run it as root: sudo flix images build; or get the images made elsewhere: flix images load FILE"))
		}
	}
	return errors.Join(errs...)
}

// lookPath finds a program on the PATH of an environment.
func lookPath(name string, environ []string) (string, error) {
	var dirs string
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = v
		}
	}
	for _, dir := range filepath.SplitList(dirs) {
		if !filepath.IsAbs(dir) {
			continue
		}
		p := filepath.Join(dir, name)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// command runs a tool in a folder, in namespaces of its own for mounts and
// processes if apart, which end with it: whatever it mounted or started. The
// end of the context ends the tool and its children.
func (b *build) command(ctx context.Context, dir string, apart bool, env []string, name string, args ...string) error {
	file, err := lookPath(name, b.o.Environ)
	if err != nil {
		return err
	}
	var out last
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = append(append([]string{}, b.o.Environ...), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if apart {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failed(name, err, &out)
	}
	return nil
}
