package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/token"
)

// A signed URL is good for as long as was asked, whatever part of a second it is.
func TestSignedFolderIsGoodForItsTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sixteen bytes or more"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := folderKeyOf(t.Context(), file, false)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 4, 5, 6, 7, 900_000_000, time.UTC)
	u, err := SignFolder(t.Context(), SignFolderOptions{SignKey: file, Path: "a b/v.mp4", TTL: time.Second}, now)
	if err != nil {
		t.Fatal(err)
	}
	tok, path, _ := strings.Cut(strings.TrimPrefix(u, "/"), "/")
	if path != "a%20b/v.mp4" {
		t.Errorf("the path is %q", path)
	}
	if _, err := key.Verify(token.URL, tok, now.Add(time.Second-1)); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	if _, err := key.Verify(token.URL, tok, now.Add(2*time.Second)); err == nil {
		t.Error("a second after its end it is still good")
	}
}
