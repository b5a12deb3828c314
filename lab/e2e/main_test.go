package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the flix under test: built once, read-only afterwards.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		return m.Run()
	}
	if binary = os.Getenv("FLIX_BIN"); binary != "" {
		if abs, err := filepath.Abs(binary); err == nil {
			binary = abs
		}
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "flix-e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "flix")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/flix")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does: the image of a lab has no linker
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
