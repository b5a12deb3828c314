package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/snapshot"
	"github.com/flix-lab/flix/services"
)

// snapshotted is a stopped lab with data, and a snapshot "s" of it.
func snapshotted(t *testing.T) (*Lab, control.Snapshot) {
	t.Helper()
	l := wanted(t)
	if _, err := l.specs(l.current()); err != nil { // it takes its ports
		t.Fatal(err)
	}
	if err := l.changeIntent(func(i *intent) { i.Halted = true }); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(l.paths.Data(), "us-east", "a", "kv", "1", "deep", "table"), "rows")
	if err := os.MkdirAll(filepath.Join(l.paths.Data(), "us-east", "a", "dns", "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.journal.Put(journal.Process, "us-east", struct{}{}); err != nil {
		t.Fatal(err)
	}
	s, err := l.SaveSnapshot(t.Context(), control.SnapshotRequest{Name: "s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func TestSaveSnapshot(t *testing.T) {
	l, s := snapshotted(t)
	if s.Lab != "x" || s.Parts != 1 || s.OutageMS != 0 || s.Bytes == 0 || s.Regions[0] != "us-east" {
		t.Errorf("%+v", s)
	}
	if st, err := os.Stat(s.Dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	m, err := snapshot.Read(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(s.Dir); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(s.Dir, "state-journal.jsonl"))
	if err != nil || bytes.Contains(b, []byte(`"process"`)) || !bytes.Contains(b, []byte(`"port"`)) {
		t.Errorf("the journal in it: %s, %v", b, err)
	}
	if _, err := l.SaveSnapshot(t.Context(), control.SnapshotRequest{Name: "s"}, nil); services.KindOf(err) != services.Conflict {
		t.Errorf("a second one of the name: %v", err)
	}
	if _, err := l.SaveSnapshot(t.Context(), control.SnapshotRequest{Name: "../s"}, nil); services.KindOf(err) != services.Invalid {
		t.Errorf("a name that leads elsewhere: %v", err)
	}
	list, err := Snapshots(l.env)
	if err != nil || len(list) != 1 || list[0].Name != "s" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := RemoveSnapshot(l.env, "s"); err != nil {
		t.Fatal(err)
	}
	if err := RemoveSnapshot(l.env, "s"); services.KindOf(err) != services.NotFound {
		t.Errorf("removed twice: %v", err)
	}
}

// TestSaveSnapshotCutShort leaves nothing of a snapshot that did not become
// whole.
func TestSaveSnapshotCutShort(t *testing.T) {
	l, s := snapshotted(t)
	if err := os.Symlink("/etc", filepath.Join(l.paths.Data(), "us-east", "a", "kv", "1", "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SaveSnapshot(t.Context(), control.SnapshotRequest{Name: "t"}, nil); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("data with a link: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.SaveSnapshot(gone, control.SnapshotRequest{Name: "t"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("without a client: %v", err)
	}
	if ds, err := os.ReadDir(filepath.Dir(s.Dir)); err != nil || len(ds) != 1 {
		t.Errorf("left behind: %v (%v)", ds, err)
	}
}

// roomy is a runtime that looks, before it starts anything, for what fills the disk.
type roomy struct {
	runtime.Runtime
	look func()
}

func (r roomy) SetWorld(context.Context, runtime.World) error {
	r.look()
	return errors.New("nothing is started here")
}

// A snapshot that failed has left the disk before the lab starts again: it may need
// the room.
func TestFailedSnapshotMakesRoom(t *testing.T) {
	l, s := snapshotted(t)
	if err := os.Symlink("/etc", filepath.Join(l.paths.Data(), "us-east", "a", "kv", "1", "link")); err != nil {
		t.Fatal(err)
	}
	if err := l.changeIntent(func(i *intent) { i.Halted = false }); err != nil {
		t.Fatal(err)
	}
	looked := false
	l.rt = roomy{l.rt, func() {
		looked = true
		if ds, err := os.ReadDir(filepath.Dir(s.Dir)); err != nil || len(ds) != 1 {
			t.Errorf("there still: %v (%v)", ds, err)
		}
	}}
	_, err := l.SaveSnapshot(t.Context(), control.SnapshotRequest{Name: "t"}, nil)
	if err == nil || !strings.Contains(err.Error(), "link") || !strings.Contains(err.Error(), "does not start again: nothing is started here") || !looked {
		t.Errorf("started again %v: %v", looked, err)
	}
}

// TestPlaceSnapshot puts a snapshot's state where a new lab has it.
func TestPlaceSnapshot(t *testing.T) {
	l, s := snapshotted(t)
	if _, err := Restore(t.Context(), l.env, RestoreOptions{Name: "s"}, nil); services.KindOf(err) != services.Conflict || !strings.Contains(services.ProblemOf(err).Remedy, "--force") {
		t.Errorf("over a lab: %v", err)
	}
	if _, err := Restore(t.Context(), l.env, RestoreOptions{Name: "s", Lab: "y"}, nil); services.KindOf(err) != services.Invalid {
		t.Errorf("under another name: %v", err)
	}
	was := l.current()
	key, err := os.ReadFile(filepath.Join(l.paths.Dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	port := l.journal.List(journal.Port)[0]
	l.ports.close() // its daemon ends with a lab
	if err := removeLab(l.paths); err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.Read(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	v := &restoring{env: l.env, paths: l.paths, dir: s.Dir, m: m}
	if err := v.place(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := testLab(t, l.env, "x")
	if again.current().ID != was.ID || !bytes.Equal(again.secret.raw, key) {
		t.Error("it is another lab")
	}
	if e, ok := again.journal.Get(journal.Port, port.ID); !ok || string(e.Data) != string(port.Data) {
		t.Errorf("port %s was %s and is %s", port.ID, port.Data, e.Data)
	}
	if b, err := os.ReadFile(filepath.Join(l.paths.Data(), "us-east", "a", "kv", "1", "deep", "table")); err != nil || string(b) != "rows" {
		t.Errorf("%q, %v", b, err)
	}
	// A part that is not what was saved is noticed before anything is made.
	if err := errors.Join(again.close(), removeLab(l.paths), os.WriteFile(filepath.Join(s.Dir, m.Parts[0].File), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), l.env, RestoreOptions{Name: "s"}, nil); services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged one: %v", err)
	}
	if l.paths.Exists() {
		t.Error("there is a lab")
	}
}

func TestExecOnEmbedded(t *testing.T) {
	l := wanted(t)
	if _, err := Exec(t.Context(), l.env, "x", "us-east/a/kv/1", ExecOptions{Cmd: []string{"ls"}}); services.KindOf(err) != services.Conflict || !strings.Contains(services.ProblemOf(err).Remedy, "--runtime containers") {
		t.Errorf("%v", err)
	}
	if _, err := Exec(t.Context(), l.env, "x", "kv", ExecOptions{Cmd: []string{"ls"}}); services.KindOf(err) != services.NotFound {
		t.Errorf("%v", err)
	}
}
