package containers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/host"
)

// worldFile is the world of the lab in the folder that every container of
// flix's own has mounted, read-only.
const worldFile = "world.json"

// specsFile names the instances of a container there.
func specsFile(id string) string { return strings.ReplaceAll(id, "/", "-") + ".json" }

// stateDir is that folder on this machine.
func (r *Runtime) stateDir() string { return filepath.Join(r.c.Dir, "serve") }

// Shared implements runtime.Runtime.
func (r *Runtime) Shared() (here, there string) { return r.stateDir(), serveDir }

// writeWorld puts the world where containers that start find it.
func (r *Runtime) writeWorld(w runtime.World) error {
	if err := os.MkdirAll(r.stateDir(), 0o700); err != nil {
		return err
	}
	return host.WriteFile(filepath.Join(r.stateDir(), worldFile), w)
}

// readWorld takes up the world that an earlier daemon has put there, if any.
func (r *Runtime) readWorld() error {
	err := host.ReadFile(filepath.Join(r.stateDir(), worldFile), &r.world)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// specsIn lists the instances that a container of flix's own is to run.
func (r *Runtime) specsIn(id string) ([]runtime.Spec, error) {
	var specs []runtime.Spec
	err := host.ReadFile(filepath.Join(r.stateDir(), specsFile(id)), &specs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return specs, err
}

// changeSpecs changes what a container is to run.
func (r *Runtime) changeSpecs(id string, change func([]runtime.Spec) []runtime.Spec) error {
	r.files.Lock()
	defer r.files.Unlock()
	specs, err := r.specsIn(id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.stateDir(), 0o700); err != nil {
		return err
	}
	return host.WriteFile(filepath.Join(r.stateDir(), specsFile(id)), change(specs))
}

// forgetSpecs removes the file of a container that is gone.
func (r *Runtime) forgetSpecs(id string) error {
	err := os.Remove(filepath.Join(r.stateDir(), specsFile(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// with adds specs, or replaces those of the same instances.
func with(specs []runtime.Spec) func([]runtime.Spec) []runtime.Spec {
	return func(have []runtime.Spec) []runtime.Spec {
		for _, s := range specs {
			if i := slices.IndexFunc(have, func(h runtime.Spec) bool { return h.ID == s.ID }); i >= 0 {
				have[i] = s
			} else {
				have = append(have, s)
			}
		}
		return have
	}
}

// without removes the specs of instances.
func without(ids []string) func([]runtime.Spec) []runtime.Spec {
	return func(have []runtime.Spec) []runtime.Spec {
		return slices.DeleteFunc(have, func(s runtime.Spec) bool { return slices.Contains(ids, s.ID) })
	}
}
