package images_test

import (
	"os"
	"testing"

	"github.com/flix-lab/flix/lab/runtime/containers/images"
)

// engine connects to the engine of this machine; the test is skipped where
// there is none, or fails when FLIX_REQUIRE_DOCKER is 1.
func engine(t testing.TB) *images.Engine {
	t.Helper()
	e, err := images.Open(t.Context(), os.Getenv)
	if err != nil {
		if os.Getenv("FLIX_REQUIRE_DOCKER") == "1" {
			t.Fatalf("Docker is not reachable: %v", err)
		}
		t.Skipf("Docker is not reachable: %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
