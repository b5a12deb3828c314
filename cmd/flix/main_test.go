package main

import (
	"context"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/lab"
)

// TestMain lets the test binary be flix: the daemon and the hosts that a
// script's lab spawns are this executable under the hidden verbs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{lab.DaemonVerb, lab.HostVerb}, os.Args[1]) {
		os.Exit(run(context.Background(), osEnv()))
	}
	// Search starts workers when its package is loaded; they are nobody's leak.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}
