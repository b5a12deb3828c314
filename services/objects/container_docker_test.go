package objects

import (
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/dockertest"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

// versity runs versitygw until the end of the test and returns its container
// and address. The test is skipped where that cannot be done (and fails when
// FLIX_REQUIRE_DOCKER is 1).
func versity(t testing.TB, args ...string) (name, addr string) {
	t.Helper()
	image := dockertest.Image(t, "s3", "versity/versitygw:v1.8.0", "flix/versitygw:1.8.0")
	name = "flixt-s3-" + strings.ToLower(rand.Text()[:8])
	t.Cleanup(func() {
		if _, err := dockertest.Run("rm", "--force", "--volumes", name); err != nil {
			t.Error(err)
		}
	})
	for k, v := range Environment(testKey, testSecret) {
		args = append(args, "--env", k+"="+v)
	}
	var errs []error
	for range 5 {
		// A port of our own choice: it stays the same when the container restarts.
		// Somebody else may be faster to take it.
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(addresstest.Port(t)))
		run := append([]string{"run", "--detach", "--name", name, "--memory", "512m", "--publish", addr + ":" + strconv.Itoa(StorePort), "--volume", StoreDir}, args...)
		_, err := dockertest.Run(append(append(run, image), Command()...)...)
		if err == nil {
			return name, addr
		}
		_, rmErr := dockertest.Run("rm", "--force", "--volumes", name) // a container that could not start is there all the same
		errs = append(errs, err, rmErr)
	}
	t.Fatal(errors.Join(errs...))
	return "", ""
}

// One container serves all: the tests of a store that lives, then those of one
// that comes and goes.
func TestVersitygw(t *testing.T) {
	name, addr := versity(t)
	start := time.Now()
	b := newBeside(t, addr, t.TempDir())
	t.Logf("it answered %s after docker run returned", time.Since(start).Round(time.Millisecond))
	b.turns(true)
	t.Run("contract", func(t *testing.T) { contract(t, b.addr) })
	t.Run("egress", func(t *testing.T) {
		counted := *b
		counted.t = t
		counted.counts()
		settles(t, "the metric less the count", func() uint64 {
			n, series := telemetrytest.Metric(t, b.tel.Metrics, "s3_egress_bytes_total", map[string]string{"bucket": BucketMedia})
			if series != 1 {
				t.Errorf("s3_egress_bytes_total has %d series", series)
			}
			return uint64(n) - b.sidecar.EgressBytes(BucketMedia)
		}, 0)
	})
	t.Run("restart", func(t *testing.T) {
		b.put("kept", []byte("kept"))
		if _, err := dockertest.Run("kill", name); err != nil {
			t.Fatal(err)
		}
		b.turns(false)
		if code, body := read(t, "http://"+b.addr+"/media/kept", ""); code != http.StatusServiceUnavailable {
			t.Errorf("a request without the store: %d %s", code, body)
		}
		if _, err := dockertest.Run("start", name); err != nil {
			t.Fatal(err)
		}
		b.turns(true)
		if got := b.get("kept", 0, 0); string(got) != "kept" {
			t.Errorf("%q after a kill, want what was stored", got)
		}
	})
}

// What versitygw itself says of a GET: its access log knows of no byte. A
// version that does would make the door's count a second opinion.
func TestVersitygwCountsNothing(t *testing.T) {
	name, addr := versity(t, "--env", "VGW_ACCESS_LOG=stdout")
	b := newBeside(t, addr, t.TempDir())
	if err := b.client.EnsureBucket(t.Context(), BucketMedia); err != nil {
		t.Fatal(err)
	}
	b.put("logged", noise(12345, 1))
	b.get("logged", 0, 0)
	// The line is written, and comes to Docker, after the answer.
	got := ""
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(patience); got == ""; {
		logs, err := dockertest.Run("logs", name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(logs) {
			if strings.Contains(line, "s3_GetObject") {
				got = line
			}
		}
		select {
		case <-late:
			t.Fatalf("the access log has no GET: %s", logs)
		case <-poll.C:
		}
	}
	t.Logf("access log: %s", got)
	if strings.Contains(got, "12345") {
		t.Errorf("the access log says %q: look again whether the door is needed", got)
	}
}
