package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A trace of the largest numbers there are was scored with NaN, which JSON has not.
func TestScoreOfHugeNumbersIsRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	trace := write("trace.json", `[{"duration_ms":1e308,"bandwidth_kbps":1e308,"latency_ms":1e308}]`)
	movie := write("movie.json", `{"segment_duration_ms":2000,"bitrates_kbps":[230,900],"segment_sizes_bits":[[460000,1800000],[460000,1800000]]}`)
	var out, errOut bytes.Buffer
	env := Env{Args: []string{"abr", "simulate", "--network", trace, "--movie", movie, "-o", "json"}, In: strings.NewReader(""), Out: &out, Err: &errOut, Getenv: func(string) string { return "" }}
	if code := run(t.Context(), env); code != 2 || out.Len() > 0 || !strings.Contains(errOut.String(), "too large") {
		t.Errorf("exit %d, printed %q, said %q", code, out.String(), errOut.String())
	}
}
