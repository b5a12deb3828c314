package images

import "testing"

// TestTooOldForALab: an engine that answers may still lack what a lab needs.
func TestTooOldForALab(t *testing.T) {
	for have, want := range map[string]bool{"1.40": true, "": true, "1.41": false, "1.52": false, "2.0": false} {
		if older(have, oldestAPI) != want {
			t.Errorf("API %q older than %s: want %v", have, oldestAPI, want)
		}
	}
}
