package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

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
	loaded := goleak.IgnoreCurrent()
	code := m.Run()
	if code == 0 {
		if err := noLeak(loaded); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// noLeak waits until no goroutine is left but those that there were. Whoever
// waits for a daemon's process ends after that process, and when the kernel
// lets it on a busy machine.
func noLeak(but goleak.Option) error {
	deadline := time.Now().Add(patience)
	for {
		err := goleak.Find(but)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
