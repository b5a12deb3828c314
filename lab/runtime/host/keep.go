package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/flix-lab/flix/lab/runtime"
)

// Load gives the host its world and instances from two files, which its runtime
// keeps up to date, so that a process that is started again without its runtime
// does what it did. It returns when the instances listen; it comes before Serve.
func (h *Host) Load(ctx context.Context, world, specs string) error {
	var w runtime.World
	if err := ReadFile(world, &w); err != nil {
		return err
	}
	if err := h.setWorld(w); err != nil {
		return err
	}
	var s []runtime.Spec
	if err := ReadFile(specs, &s); err != nil {
		return err
	}
	return h.start(ctx, s)
}

// ReadFile reads a file of JSON.
func ReadFile(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// WriteFile replaces a file of JSON as a whole.
func WriteFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
