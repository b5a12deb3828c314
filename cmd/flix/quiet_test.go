package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// A program that talks to the terminal while it initialises blocks every
// command for seconds where nobody answers.
func TestNoQuery(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script(1) is not on PATH: no pty to try it on")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, "-qec", exe+" -test.run=^$", "/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "TMUX=", "STY=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if bytes.Contains(out, []byte("\x1b]11;?")) || bytes.Contains(out, []byte("\x1b[6n")) {
		t.Errorf("the terminal was asked something at start: %q", out)
	}
}
