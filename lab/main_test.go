package lab

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/topology"
)

// Search starts workers when its package is loaded; they are nobody's leak.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// testEnv is a process world in which no lab is.
func testEnv(t testing.TB) Env {
	t.Helper()
	temp, err := os.MkdirTemp("", "flix") // t.TempDir's are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	return Env{StateHome: t.TempDir(), TempDir: temp, Exe: "/nonexistent/flix", Getenv: func(string) string { return "" }, Version: "test"}
}

func testPaths(t testing.TB, e Env, name string) Paths {
	t.Helper()
	p, err := PathsOf(e, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testLab is the engine of a lab whose hosts were never started.
func testLab(t testing.TB, e Env, name string) *Lab {
	t.Helper()
	l, err := open(e, testPaths(t, e, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.close() })
	if l.rt == nil { // it is chosen by the first up
		l.rt = embeddedRuntime(e, l.paths, l.journal)
	}
	return l
}

func preset(t testing.TB, regions int) topology.Topology {
	t.Helper()
	top, err := topology.Preset(regions)
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func testJournal(t testing.TB, dir string) *journal.Journal {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func mustWrite(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
