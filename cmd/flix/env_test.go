package main

import (
	"path/filepath"
	"testing"
)

// TestHomeOfTheUser asks without HOME: the labs' state went to the folder of
// temporary files, which others share and a reboot empties.
func TestHomeOfTheUser(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("TMPDIR", "/nowhere")
	if home := homeDir(); !filepath.IsAbs(home) || home == "/nowhere" {
		t.Errorf("home is %q", home)
	}
}
