package media

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// validator finds media-doctor, whose checks of DASH presentations (ISO/IEC
// 23009-1) and HLS playlists (RFC 8216bis) nobody here has written.
func validator(t *testing.T) string {
	t.Helper()
	p, err := exec.LookPath("media-doctor")
	if err == nil {
		return p
	}
	const remedy = "media-doctor is not on PATH (cargo install media-doctor)"
	if os.Getenv("FLIX_REQUIRE_MEDIADOCTOR") == "1" {
		t.Fatal(remedy)
	}
	t.Skip(remedy)
	return ""
}

// clean is a report that has nothing to say. The tool ends with 0 whatever it
// finds.
const clean = "No issues found."

// findings are what the validator says of a manifest; "" if it has no complaint.
func findings(t *testing.T, tool, name string, manifest []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(file, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	verb := "check-hls"
	if filepath.Ext(name) == ".mpd" {
		verb = "check-dash"
	}
	out, err := exec.Command(tool, verb, "-i", file).CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%s %s: %v: %s", verb, name, err, out)
	case strings.TrimSpace(string(out)) == clean:
		return ""
	}
	return string(out)
}

// manifests are those of an index, by name.
func manifests(x Index) map[string][]byte {
	out := map[string][]byte{DASHPath: x.DASH(), HLSPath: x.HLSMaster()}
	for _, t := range x.Tracks {
		out[PlaylistPath(t)] = x.HLSMedia(t)
		if t.hasIFrames() {
			out[IFramesPath(t)] = x.HLSIFrames(t)
		}
	}
	out["steered.mpd"], out["steered.m3u8"] = x.SteeredDASH(twoPathways()), x.SteeredHLS(twoPathways())
	return out
}

// fixtureIndexes are the indexes of the titles that come with flix.
func fixtureIndexes(t *testing.T) map[string]Index {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "fixtures", "titles", "*", IndexPath))
	if err != nil || len(files) == 0 {
		t.Fatalf("no title among the fixtures: %v", err)
	}
	out := map[string]Index{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out[filepath.Base(filepath.Dir(file))], err = ParseIndex(b); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestManifestsConform(t *testing.T) {
	tool := validator(t)
	for title, x := range fixtureIndexes(t) {
		t.Run(title, func(t *testing.T) {
			for name, m := range manifests(x) {
				if said := findings(t, tool, name, m); said != "" {
					t.Errorf("%s: %s\n%s", name, said, m)
				}
			}
		})
	}
	t.Run("the validator sees faults", func(t *testing.T) {
		mpd := string(first(fixtureIndexes(t)).DASH())
		for name, broken := range map[string]string{
			"twice.mpd":    strings.Replace(mpd, `id="v2"`, `id="v1"`, 1),
			"endless.mpd":  strings.Replace(mpd, "mediaPresentationDuration", "x", 1),
			"nothing.m3u8": "#EXTM3U\n#EXT-X-VERSION:7\n",
		} {
			if findings(t, tool, name, []byte(broken)) == "" {
				t.Errorf("%s passes", name)
			}
		}
	})
}

func first(all map[string]Index) Index {
	for _, x := range all {
		return x
	}
	return Index{}
}

// TestManifestsMatchTheSchema has xmllint compare the presentations with the
// standard's own schema. That is ISO's and may not be copied here: its path is
// FLIX_DASH_XSD, and the file beside it that it imports has to be there. The
// element of content steering is of a later document than the schema.
func TestManifestsMatchTheSchema(t *testing.T) {
	schema := os.Getenv("FLIX_DASH_XSD")
	if schema == "" {
		t.Skip("FLIX_DASH_XSD does not name the schema, DASH-MPD.xsd of ISO/IEC 23009-1")
	}
	for title, x := range fixtureIndexes(t) {
		for _, st := range []Steering{{}, {Pathways: twoPathways().Pathways}} {
			file := filepath.Join(t.TempDir(), title+".mpd")
			if err := os.WriteFile(file, x.SteeredDASH(st), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("xmllint", "--nonet", "--noout", "--schema", schema, file).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", title, err, out)
			}
		}
	}
}
