package journal

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSurvivesReopenAndTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := j.Put(Port, id, map[string]int{"port": 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Delete(Port, "b"); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Whatever byte a crash cuts the file at, the lines before it count.
	for cut := range full {
		if err := os.WriteFile(path, full[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	if err := os.WriteFile(path, full, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err = Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	got := j.List(Port)
	if len(got) != 2 || got[0].ID != "a" || got[1].ID != "c" {
		t.Fatalf("live entries = %+v, want a and c", got)
	}
}

func TestDamagedMiddleIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	if err := os.WriteFile(path, []byte("{broken\n{\"op\":\"put\",\"kind\":\"port\",\"id\":\"a\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Fatal("a journal damaged in the middle was taken as whole")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"op":"put","kind":"port","id":"a"}` + "\n"))
	f.Add([]byte("{\"op\":\"del\""))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parse(b) })
}
