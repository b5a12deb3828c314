package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// validator is a tool that checks manifests and knows nothing of flix.
func validator(t testing.TB) string {
	t.Helper()
	p, err := exec.LookPath("media-doctor")
	if err != nil {
		if os.Getenv("FLIX_REQUIRE_MEDIADOCTOR") == "1" {
			t.Fatal("media-doctor is not on PATH (cargo install media-doctor)")
		}
		t.Skip("media-doctor is not on PATH (cargo install media-doctor)")
	}
	return p
}

// served reads what there is at an address.
func served(t testing.TB, address string) string {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, r.Status, err)
	}
	return string(b)
}

// servedManifestsConform has other people's tools read what stock players get:
// the steered presentations, the playlists that lie on the appliances, and the
// media behind them.
func servedManifestsConform(l *lab) {
	t := l.t
	base := "http://" + l.proxy()
	var started struct {
		Stock struct {
			DASH string `json:"dash"`
			HLS  string `json:"hls"`
		} `json:"stock"`
	}
	decode(t, l.must("api", "/play/start", "--data", `{"session_id":"conform","title_id":"harbor-lights"}`), &started)
	dash, hls := base+started.Stock.DASH+"?hosts=address", base+started.Stock.HLS+"?hosts=address"
	t.Run("ffprobe", func(t *testing.T) {
		wantTool(t, "ffprobe")
		for _, address := range []string{dash, hls} {
			out, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_type:format=duration", "-of", "default=nokey=1:noprint_wrappers=1", address).CombinedOutput()
			seen := strings.Fields(string(out))
			if err != nil || strings.Count(string(out), "video") < 3 || !strings.Contains(string(out), "audio") || len(seen) == 0 || !strings.HasPrefix(seen[len(seen)-1], "30.") {
				t.Errorf("ffprobe %s: %v: %s", address, err, out)
			}
		}
	})
	t.Run("media-doctor", func(t *testing.T) {
		tool := validator(t)
		all := map[string]string{"manifest.mpd": served(t, dash), "master.m3u8": served(t, hls)}
		n := 0
		for line := range strings.Lines(all["master.m3u8"]) {
			if u, err := url.Parse(strings.TrimSpace(line)); err == nil && u.IsAbs() {
				n++
				all[fmt.Sprintf("playlist-%d.m3u8", n)] = served(t, u.String())
			}
		}
		if n < 3 {
			t.Errorf("the playlist names %d others, want one for each rung", n)
		}
		for name, text := range all {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			verb := map[string]string{".mpd": "check-dash", ".m3u8": "check-hls"}[filepath.Ext(name)]
			// It ends with 0 whatever it finds.
			if out, err := exec.Command(tool, verb, "-i", file).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "No issues found." {
				t.Errorf("%s: %v: %s\n%s", name, err, out, text)
			}
		}
	})
}
