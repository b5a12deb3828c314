package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPublicAPI has a fuzzing tool that knows nothing of flix call every
// operation of the API's description, through balancer and gateway.
func TestPublicAPI(t *testing.T) {
	tool, err := exec.LookPath("schemathesis")
	if err != nil {
		if os.Getenv("FLIX_REQUIRE_SCHEMATHESIS") == "1" {
			t.Fatal("schemathesis is not on PATH (pip install schemathesis)")
		}
		t.Skip("schemathesis is not on PATH (pip install schemathesis)")
	}
	l := up(t, platform{Name: "embedded"}, "--regions", "1")
	document := filepath.Join(t.TempDir(), "openapi.json")
	if err := os.WriteFile(document, []byte(l.must("api", "--openapi").stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	var signedIn struct {
		Token string `json:"token"`
	}
	decode(t, l.must("api", "--anonymous", "/signup/signin", "--data", `{"email":"demo@flix.test","password":"flix-demo","device":"web"}`), &signedIn)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, tool, "run", document, "--url", "http://"+l.proxy(), "-H", "Authorization: Bearer "+signedIn.Token,
		"--checks", "all", "--max-examples", "20", "--seed", "1", "--no-color")
	run.Dir = t.TempDir() // where it keeps its examples
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, tail(string(out), 120))
	}
}

// proxy runs flix api --proxy until the test ends and returns its address.
func (l *lab) proxy() (address string) {
	l.t.Helper()
	w := *l.world
	w.limit = 10 * time.Minute
	c := w.start(nil, "api", "--proxy", "127.0.0.1:0")
	await(l.t, 10*time.Second, "flix api --proxy says where it listens", func() error {
		_, rest, ok := strings.Cut(c.err.String(), "http://")
		address, _, _ = strings.Cut(rest, ";")
		if !ok || address == "" {
			return fmt.Errorf("it said %q", c.err.String())
		}
		return nil
	})
	l.t.Cleanup(func() {
		if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
			l.t.Error(err)
		}
		if r := c.wait(); r.code != 0 {
			l.t.Errorf("%s", r.story())
		}
	})
	return address
}
