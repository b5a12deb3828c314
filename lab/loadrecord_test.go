package lab

import (
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/record"
	"github.com/flix-lab/flix/lab/traffic"
)

// TestAShorterLoadIsNotABetterOne compares a load that failed one play of ten with
// one that failed two of a hundred: fewer failed, and a larger share.
func TestAShorterLoadIsNotABetterOne(t *testing.T) {
	p := Paths{Dir: t.TempDir()}
	keep := func(plays, failed, stalled int) record.Record {
		t.Helper()
		id, err := KeepLoad(p, traffic.Config{}, traffic.Limits{}, traffic.Result{Began: time.Unix(1_700_000_000, 0), Report: traffic.Report{Plays: plays, PlaysFailed: failed, StalledPlays: stalled}})
		return keptRecord(t, p, id, err)
	}
	got := map[string]string{}
	for _, c := range record.Compare(keep(10, 1, 1), keep(100, 2, 20)) {
		got[c.Name] = c.Verdict
	}
	for name, want := range map[string]string{"plays failed": "changed", "failed ratio": "worse", "stalled plays": "changed", "stalled ratio": "better"} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}
