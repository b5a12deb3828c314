package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/flix-lab/flix/lab/runtime"
)

// The files in which a host that keeps its state has it.
const (
	WorldFile = "world.json"
	SpecsFile = "specs.json"
)

// Keep makes the host remember its world and instances in a folder and go on
// with what it finds there, so that a process that is restarted without its
// runtime does what it did. It starts the instances and returns when they
// listen; it comes before Serve.
func (h *Host) Keep(ctx context.Context, dir string) error {
	h.mu.Lock()
	h.dir = dir
	h.mu.Unlock()
	var world runtime.World
	if ok, err := readFile(dir, WorldFile, &world); err != nil || !ok {
		return err
	}
	if err := h.setWorld(world); err != nil {
		return err
	}
	var specs []runtime.Spec
	if ok, err := readFile(dir, SpecsFile, &specs); err != nil || !ok {
		return err
	}
	return h.start(ctx, specs)
}

func readFile(dir, name string, into any) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return true, nil
}

// writeFile replaces a file of the kept state as a whole.
func writeFile(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// keepWorld remembers the world. The caller holds h.mu.
func (h *Host) keepWorld() error {
	if h.dir == "" {
		return nil
	}
	return writeFile(h.dir, WorldFile, h.world)
}

// keepSpecs remembers which instances are to run.
func (h *Host) keepSpecs(change func([]runtime.Spec) []runtime.Spec) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = change(h.kept)
	if h.dir == "" {
		return nil
	}
	return writeFile(h.dir, SpecsFile, h.kept)
}

// with adds specs, or replaces those of the same instances.
func with(specs []runtime.Spec) func([]runtime.Spec) []runtime.Spec {
	return func(kept []runtime.Spec) []runtime.Spec {
		for _, s := range specs {
			if i := slices.IndexFunc(kept, func(k runtime.Spec) bool { return k.ID == s.ID }); i >= 0 {
				kept[i] = s
			} else {
				kept = append(kept, s)
			}
		}
		return kept
	}
}

// without removes the specs of instances.
func without(ids []string) func([]runtime.Spec) []runtime.Spec {
	return func(kept []runtime.Spec) []runtime.Spec {
		return slices.DeleteFunc(kept, func(s runtime.Spec) bool { return slices.Contains(ids, s.ID) })
	}
}
