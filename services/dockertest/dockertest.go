// Package dockertest is what the tests against real stores share: it finds a
// store's image and runs the docker command. It starts nothing by itself and
// never pulls.
package dockertest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// commandTime bounds one docker command.
const commandTime = 2 * time.Minute

// Image returns the first of the images that is here, or the one that
// FLIX_IMAGE_<COMPONENT> names. Without one, or without an engine, the test is
// skipped; where FLIX_REQUIRE_DOCKER is 1 it fails. A short run skips it.
func Image(t testing.TB, component string, images ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a real store takes too long for a short run")
	}
	miss := t.Skipf
	if os.Getenv("FLIX_REQUIRE_DOCKER") == "1" {
		miss = t.Fatalf
	}
	if _, err := Run("version", "--format", "{{.Server.Version}}"); err != nil {
		miss("Docker is not reachable: %v", err)
	}
	override := "FLIX_IMAGE_" + strings.ToUpper(component)
	if image := os.Getenv(override); image != "" {
		return image
	}
	for _, image := range images {
		if _, err := Run("image", "inspect", image); err == nil {
			return image
		}
	}
	miss("none of the images %s is here: flix images pull, flix images build, or name another in %s", strings.Join(images, ", "), override)
	return ""
}

// Run runs the docker command and returns what it prints.
func Run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
