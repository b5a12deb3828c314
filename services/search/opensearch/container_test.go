package opensearch_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services/dockertest"
)

// container is one that a test started.
type container struct{ name string }

// startContainer runs OpenSearch until the end of the test, which it skips
// where that cannot be done (and fails when FLIX_REQUIRE_DOCKER is 1).
func startContainer(t testing.TB) *container {
	t.Helper()
	image := dockertest.Image(t, "opensearch", "opensearchproject/opensearch:2.18.0", "flix/opensearch:2.18.0")
	c := &container{name: "flixt-os-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(func() {
		if _, err := dockertest.Run("rm", "--force", "--volumes", c.name); err != nil {
			t.Error(err)
		}
	})
	if _, err := dockertest.Run("run", "--detach", "--name", c.name, "--memory", "900m", "--publish", "127.0.0.1::9200",
		"--env", "discovery.type=single-node", "--env", "DISABLE_SECURITY_PLUGIN=true", "--env", "OPENSEARCH_JAVA_OPTS=-Xms256m -Xmx256m",
		// A full disk of the machine is no reason to refuse a test's documents.
		"--env", "cluster.routing.allocation.disk.threshold_enabled=false", image); err != nil {
		t.Fatal(err)
	}
	return c
}

// url of the API, from outside the container. A container that is restarted may
// get another port.
func (c *container) url(context.Context) (string, error) {
	out, err := dockertest.Run("port", c.name, "9200/tcp")
	if err != nil {
		return "", err
	}
	addr, _, _ := strings.Cut(out, "\n")
	return "http://" + addr, nil
}
