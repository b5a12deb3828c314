package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/flix-lab/flix/lab"
	"github.com/flix-lab/flix/lab/runtime/embedded"
)

// scriptVars is the environment that a script's flix sees; nothing else of the
// machine's leaks in.
var scriptVars = []string{"HOME", "PATH", "TMPDIR", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "NO_COLOR", "TERM", "DOCKER_HOST", "FLIX_LOG_LEVEL"}

// patience bounds whatever a script waits for: a guard against one that hangs.
// A wait ends as soon as what it waits for is there.
const patience = time.Minute

type lastExit struct{ code int }

type lastExitKey struct{}

// TestScripts runs testdata/script/*.txtar. Beside testscript's own commands:
//
//	flix ARGS…            runs the command line in this process; `env TTY=1`
//	                      makes its output a terminal
//	exit N                the code that the last flix ended with
//	json PATH [VALUE]     the last output is JSON in which PATH is there (and
//	                      prints as VALUE); parts are joined by dots, [*] any element
//	setenv NAME PATH      takes a value of the last output into the environment
//	eventually ARGS…      repeats flix ARGS until it exits 0 and prints what the
//	                      last argument (a substring) says
//	noprocess             no process of a lab of this script is left
func TestScripts(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &scripts{exe: exe}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup:              s.setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"flix": s.flix, "exit": exitCode, "json": jsonPath, "setenv": s.setenv, "eventually": s.eventually, "noprocess": noProcess,
		},
	})
}

type scripts struct{ exe string }

func (s *scripts) setup(e *testscript.Env) error {
	e.Values[lastExitKey{}] = &lastExit{}
	state := filepath.Join(e.WorkDir, "state")
	e.Setenv("XDG_STATE_HOME", state)
	e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
	// A script that fails half way must not leave its lab behind.
	env := lab.Env{StateHome: state, TempDir: e.Getenv("TMPDIR"), Exe: s.exe, Getenv: e.Getenv}
	e.Defer(func() {
		names, err := lab.Names(env)
		if err != nil {
			panic(err) // testscript's Defer has no other way to fail
		}
		for _, n := range names {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			_, err := lab.Down(ctx, env, n, false)
			cancel()
			if err != nil {
				panic(err)
			}
		}
	})
	return nil
}

// env is the process world of one flix of a script.
func (s *scripts) env(ts *testscript.TestScript, args []string) Env {
	e := Env{
		Args: args, Getenv: ts.Getenv, In: strings.NewReader(""), Out: ts.Stdout(), Err: ts.Stderr(),
		Exe: s.exe, HomeDir: ts.Getenv("HOME"), TempDir: ts.Getenv("TMPDIR"),
	}
	for _, k := range scriptVars {
		if v := ts.Getenv(k); v != "" {
			e.Environ = append(e.Environ, k+"="+v)
		}
	}
	if ts.Getenv("TTY") != "" {
		wide := func() int { return 120 }
		e.OutTTY, e.ErrTTY, e.OutWidth, e.ErrWidth = true, true, wide, wide
	}
	if in := ts.Getenv("STDIN"); in != "" {
		e.In = strings.NewReader(ts.ReadFile(in))
	}
	return e
}

func (s *scripts) flix(ts *testscript.TestScript, neg bool, args []string) {
	code := run(context.Background(), s.env(ts, args))
	ts.Value(lastExitKey{}).(*lastExit).code = code
	switch {
	case neg && code == exitOK:
		ts.Fatalf("flix %s: exit 0, want a failure", strings.Join(args, " "))
	case !neg && code != exitOK:
		ts.Fatalf("flix %s: exit %d", strings.Join(args, " "), code)
	}
}

func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: exit CODE")
	}
	if got := strconv.Itoa(ts.Value(lastExitKey{}).(*lastExit).code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// lookUp walks a decoded JSON value along "a.0.b"; "[*]" takes any element.
func lookUp(v any, path []string) []any {
	if len(path) == 0 {
		return []any{v}
	}
	switch x := v.(type) {
	case map[string]any:
		if e, ok := x[path[0]]; ok {
			return lookUp(e, path[1:])
		}
	case []any:
		if path[0] == "[*]" {
			var out []any
			for _, e := range x {
				out = append(out, lookUp(e, path[1:])...)
			}
			return out
		}
		if n, err := strconv.Atoi(path[0]); err == nil && n < len(x) {
			return lookUp(x[n], path[1:])
		}
	}
	return nil
}

func values(ts *testscript.TestScript, path string) []string {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("stdout is not JSON: %v", err)
	}
	var out []string
	for _, x := range lookUp(v, strings.Split(path, ".")) {
		if s, ok := x.(string); ok {
			out = append(out, s)
			continue
		}
		b, err := json.Marshal(x)
		ts.Check(err)
		out = append(out, string(b))
	}
	return out
}

func jsonPath(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: json PATH [VALUE]")
	}
	got := values(ts, args[0])
	found := len(got) > 0
	if len(args) == 2 {
		found = false
		for _, g := range got {
			found = found || g == args[1]
		}
	}
	if found == neg {
		ts.Fatalf("json %s: found %q", strings.Join(args, " "), got)
	}
}

func (s *scripts) setenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: setenv NAME PATH")
	}
	got := values(ts, args[1])
	if len(got) == 0 {
		ts.Fatalf("setenv: nothing at %s", args[1])
	}
	ts.Setenv(args[0], got[0])
}

func (s *scripts) eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually ARGS… SUBSTRING")
	}
	want, args := args[len(args)-1], args[:len(args)-1]
	deadline := time.Now().Add(patience)
	for {
		var out strings.Builder
		e := s.env(ts, args)
		e.Out = &out
		code := run(context.Background(), e)
		if code == exitOK && strings.Contains(out.String(), want) {
			_, err := ts.Stdout().Write([]byte(out.String()))
			ts.Check(err)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("flix %s: exit %d without %q:\n%s", strings.Join(args, " "), code, want, out.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// noProcess finds processes by the lab's folder in their arguments.
func noProcess(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: noprocess")
	}
	labs := filepath.Join(ts.Getenv("XDG_STATE_HOME"), "flix", "labs")
	for _, verb := range []string{lab.DaemonVerb, lab.HostVerb} {
		for _, p := range embedded.Find(verb, "--lab-dir") {
			if dir := embedded.Argument(p.PID, "--lab-dir"); filepath.Dir(dir) == labs {
				ts.Fatalf("process %d (%s) of %s is left", p.PID, verb, dir)
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(ts.Getenv("TMPDIR"), "flix-*"))
	ts.Check(err)
	if len(left) > 0 {
		ts.Fatalf("left behind: %v", left)
	}
	if err := syscall.Access(labs, 0); !errors.Is(err, syscall.ENOENT) {
		ts.Fatalf("%s is left behind (%v)", labs, err)
	}
}
