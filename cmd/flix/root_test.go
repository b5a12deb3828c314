package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/flix-lab/flix/services"
)

// TestExitCodes checks every kind and every reason against the table that
// "flix help exit-codes" prints: scripts rely on it.
func TestExitCodes(t *testing.T) {
	type row struct {
		err  error
		code int
	}
	rows := []row{
		{errors.New("boom"), 1},
		{services.Errorf(services.Internal, "x"), 1},
		{services.Errorf(services.Invalid, "x"), 2},
		{usageError{errors.New("bad flag")}, 2},
		{services.Errorf(services.NotFound, "x"), 3},
		{services.Errorf(services.Denied, "x"), 4},
		{services.Errorf(services.Conflict, "x"), 5},
		{services.Errorf(services.Unavailable, "x"), 6},
		{services.Errorf(services.Exhausted, "x"), 7},
		{fmt.Errorf("save: %w", syscall.ENOSPC), 7},
		{services.Problem{Kind: services.Internal, Error: "start: kv: write x: no space left on device"}.Err(), 7},
		{services.Errorf(services.Unavailable, "x: %v", syscall.ENOSPC), 6},
		{fmt.Errorf("outer: %w", services.Errorf(services.Denied, "x").WithReason(services.ReasonNotLicensed)), 22},
	}
	for reason, code := range reasonExits {
		rows = append(rows, row{services.Errorf(services.NotFound, "x").WithReason(reason), code})
	}
	for _, r := range rows {
		var errOut bytes.Buffer
		got := report(Env{Err: &errOut, Getenv: func(string) string { return "" }}, "flix play", r.err)
		if got != r.code {
			t.Errorf("%v (reason %q): exit %d, want %d", r.err, services.ReasonOf(r.err), got, r.code)
		}
		if !strings.Contains(exitHelp, fmt.Sprintf("\n  %-4d ", r.code)) {
			t.Errorf("exit code %d is not in the help", r.code)
		}
		if !strings.HasPrefix(errOut.String(), "flix: ") {
			t.Errorf("the message begins %q", errOut.String())
		}
	}
}

func TestReasonsHaveCodesOfTheirOwn(t *testing.T) {
	seen := map[int]string{}
	for reason, code := range reasonExits {
		if other, ok := seen[code]; ok {
			t.Errorf("%s and %s share exit code %d", reason, other, code)
		}
		if code < 20 {
			t.Errorf("%s has %d, which belongs to the kinds", reason, code)
		}
		seen[code] = reason
	}
}

// TestInterrupted gives the run a context that has ended: a verb that fails for
// that reason is an interruption, not a failure.
func TestInterrupted(t *testing.T) {
	env, errOut := topEnv(t, false)
	env.Args = []string{"lab", "up", "--regions", "1"}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code := run(ctx, env); code != exitInterrupted {
		t.Errorf("exit code %d, want %d: %s", code, exitInterrupted, errOut)
	}
}

// TestParentsKnowTheirVerbs gives every command that has others below it a verb
// that is none of them.
func TestParentsKnowTheirVerbs(t *testing.T) {
	var parents []string
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			look(sub)
		}
		if !c.HasSubCommands() || !c.HasParent() {
			return
		}
		parents = append(parents, c.CommandPath())
		if c.Args == nil || c.Args(c, []string{"no-such", "verb"}) == nil {
			t.Errorf("%s takes a verb that there is not", c.CommandPath())
		}
	}
	look(newRoot(Env{}))
	if !slices.Contains(parents, "flix chaos experiment") {
		t.Errorf("only %q were looked at", parents)
	}
}
