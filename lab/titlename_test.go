package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/services"
)

// A name is counted by characters, and shows on a terminal as it is.
func TestNamesOfTitles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.mp4")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{
		"Harbor Lights": true, `Ünïcødé / & "q" <x>`: true, strings.Repeat("港", 120): true, strings.Repeat("港", 121): false,
		" ": false, "tab\tname": false, "\x1b[2Jgone": false, "two\nlines": false, "\xff": false, "c1\u009bm": false,
	} {
		err := CheckOriginal(Env{}, control.AddTitleRequest{File: file, Name: name})
		if services.ReasonOf(err) == services.ReasonNoFFmpeg {
			t.Skip(err)
		}
		if (err == nil) != good || err != nil && (services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), "--name")) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
