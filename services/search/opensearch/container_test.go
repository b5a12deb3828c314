package opensearch_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// container is one that a test started.
type container struct{ name string }

// startContainer runs OpenSearch until the end of the test, which it skips
// where that cannot be done (and fails when FLIX_REQUIRE_DOCKER is 1).
func startContainer(t testing.TB) *container {
	t.Helper()
	image := pickImage(t)
	c := &container{name: "flixt-os-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(func() {
		if _, err := docker("rm", "--force", "--volumes", c.name); err != nil {
			t.Error(err)
		}
	})
	if _, err := docker("run", "--detach", "--name", c.name, "--memory", "900m", "--publish", "127.0.0.1::9200",
		"--env", "discovery.type=single-node", "--env", "DISABLE_SECURITY_PLUGIN=true", "--env", "OPENSEARCH_JAVA_OPTS=-Xms256m -Xmx256m",
		// A full disk of the machine is no reason to refuse a test's documents.
		"--env", "cluster.routing.allocation.disk.threshold_enabled=false", image); err != nil {
		t.Fatal(err)
	}
	return c
}

// pickImage returns the image to test with.
func pickImage(t testing.TB) string {
	t.Helper()
	miss := t.Skipf
	if os.Getenv("FLIX_REQUIRE_DOCKER") == "1" {
		miss = t.Fatalf
	}
	if _, err := docker("version", "--format", "{{.Server.Version}}"); err != nil {
		miss("Docker is not reachable: %v", err)
	}
	if image := os.Getenv("FLIX_IMAGE_OPENSEARCH"); image != "" {
		return image
	}
	images := []string{"opensearchproject/opensearch:2.18.0", "flix/opensearch:2.18.0"}
	for _, image := range images {
		if _, err := docker("image", "inspect", image); err == nil {
			return image
		}
	}
	miss("none of the images %s is here: pull the first, or name another in FLIX_IMAGE_OPENSEARCH", strings.Join(images, ", "))
	return ""
}

// url of the API, from outside the container. A container that is restarted may
// get another port.
func (c *container) url(context.Context) (string, error) {
	out, err := docker("port", c.name, "9200/tcp")
	if err != nil {
		return "", err
	}
	addr, _, _ := strings.Cut(out, "\n")
	return "http://" + addr, nil
}

// docker runs the docker command and returns what it prints.
func docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
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
