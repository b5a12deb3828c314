package web

import (
	"testing"

	"go.uber.org/goleak"
)

// After a request that was too long net/http lingers half a second by itself.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}
