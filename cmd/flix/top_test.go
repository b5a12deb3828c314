package main

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/flix-lab/flix/services"
)

// topEnv is a process world of a test; no lab is in it.
func topEnv(t *testing.T, tty bool) (Env, *bytes.Buffer) {
	var errOut bytes.Buffer
	dir := t.TempDir()
	return Env{
		Args: []string{"top", "--name", "nowhere"}, Getenv: func(k string) string { return map[string]string{"XDG_STATE_HOME": dir}[k] },
		In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: &errOut, OutTTY: tty, HomeDir: dir, TempDir: dir, Exe: "/nonexistent/flix",
	}, &errOut
}

func TestTopRefusesWithoutTerminal(t *testing.T) {
	env, errOut := topEnv(t, false)
	if code := run(context.Background(), env); code != services.Invalid.ExitCode() {
		t.Errorf("exit code %d, want %d", code, services.Invalid.ExitCode())
	}
	for _, want := range []string{"flix top needs a terminal", "flix lab status -o json", "flix events -f"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("the message lacks %q:\n%s", want, errOut)
		}
	}
}

// A dumb terminal would show the dashboard's control sequences as text.
func TestTopRefusesDumbTerminal(t *testing.T) {
	env, errOut := topEnv(t, true)
	getenv := env.Getenv
	env.Getenv = func(k string) string {
		if k == "TERM" {
			return "dumb"
		}
		return getenv(k)
	}
	if code := run(context.Background(), env); code != services.Invalid.ExitCode() {
		t.Errorf("exit code %d, want %d", code, services.Invalid.ExitCode())
	}
	for _, want := range []string{"flix top needs a terminal", "TERM=dumb", "flix lab status -o json"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("the message lacks %q:\n%s", want, errOut)
		}
	}
}

func TestTopOfUnknownLab(t *testing.T) {
	env, errOut := topEnv(t, true)
	if code := run(context.Background(), env); code != reasonExits[services.ReasonNoLab] {
		t.Errorf("exit code %d, want %d; it said %s", code, reasonExits[services.ReasonNoLab], errOut)
	}
	if env.Out.(*bytes.Buffer).Len() > 0 {
		t.Errorf("it drew without a lab: %q", env.Out)
	}
}

func TestKeyboardOfAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if keyboard(r) != nil {
		t.Error("a pipe was taken for a keyboard")
	}
}

// TestHangUp ends what a signal of the terminal's end reaches: the dashboard left
// the terminal as it drew on it.
func TestHangUp(t *testing.T) {
	ctx, stop := hangUp(t.Context())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	ignored, end := hangUp(t.Context())
	defer end()
	if !signal.Ignored(syscall.SIGHUP) || ignored.Err() != nil {
		t.Error("a signal that is to be ignored no longer is")
	}
}
