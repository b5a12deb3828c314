package media

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A file whose copy broke off is refused; one whose streams end apart is whole.
func TestInspectRefusesWhatIsCutOff(t *testing.T) {
	tools := testTools(t)
	picture := []string{"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=8", "-f", "lavfi", "-i", "sine=duration=8"}
	encode := []string{"-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac"}
	for _, c := range []struct {
		name  string
		args  []string
		whole bool // it says nothing of its length, or cannot be read at all without its end
	}{
		{name: "index-first.mp4", args: []string{"-movflags", "+faststart"}},
		{name: "fragments.mp4", args: []string{"-movflags", "+frag_keyframe+default_base_moof+dash+global_sidx"}},
		{name: "x.mkv"},
		{name: "index-first.mkv", args: []string{"-cues_to_front", "1"}},
		{name: "x.ts", whole: true},
	} {
		path := synthesise(t, tools, c.name, append(append(append([]string{}, picture...), encode...), c.args...)...)
		if _, err := tools.Inspect(t.Context(), path); err != nil {
			t.Errorf("%s whole: %v", c.name, err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cut := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(cut, b[:len(b)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if o, err := tools.Inspect(t.Context(), cut); errors.Is(err, ErrCutOff) == c.whole || c.whole && err != nil {
			t.Errorf("half of %s: %+v, error %v", c.name, o, err)
		}
	}
	short := synthesise(t, tools, "short.mp4", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=2", "-f", "lavfi", "-i", "sine=duration=8", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")
	if _, err := tools.Inspect(t.Context(), short); err != nil {
		t.Errorf("sound that goes on: %v", err)
	}
}
