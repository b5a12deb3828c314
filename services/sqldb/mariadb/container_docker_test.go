package mariadb_test

import (
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/flix-lab/flix/services/dockertest"
	"github.com/flix-lab/flix/services/sqldb/mariadb"
)

// container is a MariaDB that a test started.
type container struct {
	name string

	mu       sync.Mutex
	addr, ip string
}

func accounts() mariadb.Accounts {
	return mariadb.Accounts{
		RootPassword: "root-secret", Database: "flix", User: "flix", Password: "it's \\ secret",
		ReplicationUser: "replica", ReplicationPassword: "replica-secret",
	}
}

// startContainer runs a server until the end of the test, which it skips where
// that cannot be done (and fails when FLIX_REQUIRE_DOCKER is 1). It does not
// wait for the server to answer.
func startContainer(t testing.TB, serverID int) *container {
	t.Helper()
	image := dockertest.Image(t, "mariadb", "mariadb:10.11", "flix/mariadb:10.11")
	c := &container{name: "flixt-mdb-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(func() {
		if _, err := dockertest.Run("rm", "--force", "--volumes", c.name); err != nil {
			t.Error(err)
		}
	})
	args := []string{"run", "--detach", "--name", c.name, "--memory", "512m", "--publish", "127.0.0.1::3306"}
	for k, v := range mariadb.Environment(accounts()) {
		args = append(args, "--env", k+"="+v)
	}
	args = append(append(args, image), mariadb.Options(serverID, mariadb.Small)...)
	if _, err := dockertest.Run(args...); err != nil {
		t.Fatal(err)
	}
	c.locate(t)
	return c
}

// locate finds out where the container is; it moves when it is started again.
func (c *container) locate(t testing.TB) {
	t.Helper()
	out, err := dockertest.Run("inspect", "--format", `{{(index (index .NetworkSettings.Ports "3306/tcp") 0).HostPort}} {{.NetworkSettings.IPAddress}}`, c.name)
	if err != nil {
		t.Fatal(err)
	}
	port, ip, _ := strings.Cut(out, " ")
	if _, err := strconv.Atoi(port); err != nil || ip == "" {
		t.Fatalf("%s is at %q", c.name, out)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addr, c.ip = "127.0.0.1:"+port, ip
}

// published is the address for this process, inside the one for containers.
func (c *container) published() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

func (c *container) inside() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ip
}

func (c *container) kill(t testing.TB) {
	t.Helper()
	if _, err := dockertest.Run("kill", c.name); err != nil {
		t.Fatal(err)
	}
}

func (c *container) restart(t testing.TB) {
	t.Helper()
	if _, err := dockertest.Run("start", c.name); err != nil {
		t.Fatal(err)
	}
	c.locate(t)
}

func (c *container) pause(t testing.TB) {
	t.Helper()
	if _, err := dockertest.Run("pause", c.name); err != nil {
		t.Fatal(err)
	}
}

func (c *container) unpause(t testing.TB) {
	t.Helper()
	if _, err := dockertest.Run("unpause", c.name); err != nil {
		t.Fatal(err)
	}
}

// sql runs statements as root, past every Keeper, and returns what they print.
func (c *container) sql(t testing.TB, text string) string {
	t.Helper()
	out, err := dockertest.Run("exec", c.name, "mariadb", "-uroot", "-p"+accounts().RootPassword, "--batch", "--skip-column-names", "-e", text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
