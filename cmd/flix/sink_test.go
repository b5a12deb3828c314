package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

var errFull = errors.New("no space left on device")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// TestUnwrittenAnswerIsAFailure gives commands an output that takes nothing: what
// people read was lost and the exit code 0.
func TestUnwrittenAnswerIsAFailure(t *testing.T) {
	for _, args := range []string{"version", "version -o json", "version -o yaml", "--help", "exit-codes", "completion bash", "lab ls", "lab topology show", "lab ls -o json"} {
		env, errOut := topEnv(t, false)
		env.Args, env.Out = strings.Fields(args), fullDisk{}
		if code := run(t.Context(), env); code != services.Unavailable.ExitCode() {
			t.Errorf("flix %s: exit code %d, want %d", args, code, services.Unavailable.ExitCode())
		}
		if got := errOut.String(); !strings.Contains(got, "standard output: "+errFull.Error()) || !strings.Contains(got, "write elsewhere") {
			t.Errorf("flix %s: said %q", args, got)
		}
	}
}

// TestWorseThanTheOutput keeps what the command itself failed for.
func TestWorseThanTheOutput(t *testing.T) {
	s := &sink{w: fullDisk{}}
	if err := s.failure(nil); err != nil {
		t.Errorf("nothing was written, and it failed: %v", err)
	}
	_, _ = s.Write([]byte("x"))
	own := services.Errorf(services.NotFound, "no such thing")
	if err := s.failure(own); err != error(own) {
		t.Errorf("the command's failure became %v", err)
	}
	ok := &sink{w: &bytes.Buffer{}}
	if _, err := ok.Write([]byte("x")); err != nil || ok.failure(nil) != nil {
		t.Error("a good output failed")
	}
}
