package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

func TestLabNames(t *testing.T) {
	e := Env{StateHome: "/state", TempDir: "/tmp"}
	for name, ok := range map[string]bool{
		"default": true, "a": true, "planet-1": true, "0": true, strings.Repeat("x", 32): true,
		"": false, "-a": false, "a-": false, "A": false, "a_b": false, "a/b": false, "..": false, ".": false,
		"a.b": false, "a b": false, "ä": false, "a\n": false, strings.Repeat("x", 33): false,
	} {
		_, err := PathsOf(e, name)
		if (err == nil) != ok {
			t.Errorf("name %q: error %v, want it accepted: %v", name, err, ok)
		}
		if err != nil && (services.KindOf(err) != services.Invalid || services.ProblemOf(err).Remedy == "") {
			t.Errorf("name %q: error %v has kind %s", name, err, services.KindOf(err))
		}
	}
}

// TestSocketsFit checks the longest socket there is against the kernel's bound.
func TestSocketsFit(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range []Env{
		{StateHome: "/home/somebody/.local/state", RuntimeDir: "/run/user/1000", TempDir: "/tmp"},
		{StateHome: "/" + strings.Repeat("deep/", 60), RuntimeDir: "/run/user/1000", TempDir: "/tmp"},
		{StateHome: "/s", RuntimeDir: "/run/" + strings.Repeat("x", 80), TempDir: "/tmp"},
		{StateHome: "/s", TempDir: "/var/tmp"},
	} {
		for _, name := range []string{"a", strings.Repeat("x", 32)} {
			p := testPaths(t, e, name)
			longest := filepath.Join(p.Sockets, "h-"+strings.Repeat("r", 40)+".sock") // a region's name is a label of at most 40
			if len(longest) > 107 || len(p.Socket()) > 107 {
				t.Errorf("%s has %d bytes", longest, len(longest))
			}
			if seen[p.Sockets] {
				t.Errorf("two labs share %s", p.Sockets)
			}
			seen[p.Sockets] = true
		}
	}
}

func TestMakeIsPrivate(t *testing.T) {
	e := testEnv(t)
	p := testPaths(t, e, "x")
	if p.Exists() {
		t.Error("it exists before it was made")
	}
	for range 2 { // idempotent
		if err := p.make(); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{p.Dir, p.Logs(), p.Data(), p.Sockets} {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v (error %v), want 0700", d, st, err)
		}
	}
	if !p.Exists() {
		t.Error("it does not exist after it was made")
	}
}

// TestForeignSocketFolderIsRefused lays in the shared folder what an attacker
// could: the lab must not put its sockets there.
func TestForeignSocketFolderIsRefused(t *testing.T) {
	for name, lay := range map[string]func(dir string) error{
		"open to others":    func(dir string) error { return errorsJoin(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o755)) },
		"open to the group": func(dir string) error { return errorsJoin(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o770)) },
		"a link":            func(dir string) error { return os.Symlink(os.TempDir(), dir) },
		"a file":            func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"somebody else's": func(dir string) error {
			if os.Getuid() != 0 {
				return os.Mkdir(dir, 0o777) // only root can give a folder away
			}
			return errorsJoin(os.Mkdir(dir, 0o700), os.Chown(dir, 12345, 12345))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := testPaths(t, testEnv(t), "x")
			if err := lay(p.Sockets); err != nil {
				t.Fatal(err)
			}
			err := p.make()
			if services.KindOf(err) != services.Denied || !strings.Contains(err.Error(), p.Sockets) || services.ProblemOf(err).Remedy == "" {
				t.Errorf("error %v", err)
			}
		})
	}
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestNamesOfLabs(t *testing.T) {
	e := testEnv(t)
	if got, err := Names(e); len(got) != 0 || err != nil {
		t.Errorf("without a lab: %v, %v", got, err)
	}
	home := testPaths(t, e, "x").Home
	mustWrite(t, filepath.Join(home, "b", "journal.jsonl"), "")
	mustWrite(t, filepath.Join(home, "a", "journal.jsonl"), "")
	mustWrite(t, filepath.Join(home, "Not_A_Lab", "x"), "")
	mustWrite(t, filepath.Join(home, "file"), "")
	if got, err := Names(e); !slices.Equal(got, []string{"a", "b"}) || err != nil {
		t.Errorf("names %v (error %v), want a and b", got, err)
	}
}

// TestRemoveLab removes one lab and leaves the other.
func TestRemoveLab(t *testing.T) {
	e := testEnv(t)
	a, b := testPaths(t, e, "a"), testPaths(t, e, "b")
	for _, p := range []Paths{a, b} {
		if err := p.make(); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeLab(a); err != nil {
		t.Fatal(err)
	}
	if a.Exists() || !b.Exists() {
		t.Errorf("a exists %v, b exists %v", a.Exists(), b.Exists())
	}
	if err := removeLab(b); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e.StateHome, "flix")); !os.IsNotExist(err) {
		t.Errorf("the empty folders above are left: %v", err)
	}
	if _, err := os.Stat(e.StateHome); err != nil {
		t.Errorf("the user's own folder: %v", err)
	}
}

func TestRemoveAllStaysInside(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "data", "north", "x"), "")
	mustWrite(t, filepath.Join(dir, "other", "x"), "")
	if err := os.Symlink(filepath.Join(dir, "other"), filepath.Join(dir, "data", "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../other", "link", "north", "not-there"} {
		_ = removeAll(filepath.Join(dir, "data"), name)
	}
	if _, err := os.Stat(filepath.Join(dir, "other", "x")); err != nil {
		t.Errorf("what lies outside is gone: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "data")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestStateThatCannotBeKept puts the state below a file: that is not the same as
// no lab, and the error says what to set.
func TestStateThatCannotBeKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	mustWrite(t, file, "")
	e := testEnv(t)
	e.StateHome = file
	_, err := PathsOf(e, "x")
	_, down := Down(t.Context(), e, "x", false)
	for _, err := range []error{err, down} {
		if services.KindOf(err) != services.Unavailable || !strings.Contains(services.ProblemOf(err).Remedy, "XDG_STATE_HOME") {
			t.Errorf("error %v, want an unavailable state with a remedy", err)
		}
	}
}

// A lab is found by whoever has its state, also from another session: its sockets
// lie where it was brought up first, while that is there.
func TestSocketsStayWhereTheyAre(t *testing.T) {
	e := testEnv(t)
	short := func() string { // a test's own folder has too long a name
		dir, err := os.MkdirTemp("/tmp", "flix-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	e.RuntimeDir = short()
	first, err := PathsOf(e, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.make(); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"", short()} {
		e.RuntimeDir = other
		again, err := PathsOf(e, "x")
		if err != nil || again != first {
			t.Errorf("with the runtime folder %q: %+v, %v, want %+v", other, again, err, first)
		}
	}
	if err := os.RemoveAll(filepath.Dir(first.Sockets)); err != nil {
		t.Fatal(err)
	}
	if moved, err := PathsOf(e, "x"); err != nil || filepath.Dir(moved.Sockets) != e.RuntimeDir {
		t.Errorf("where the folder is gone: %+v, %v", moved, err)
	}
}
