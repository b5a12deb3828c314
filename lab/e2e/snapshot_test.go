package e2e_test

import (
	"testing"
	"time"

	"github.com/flix-lab/flix/services/kv"
)

// TestSnapshotRegions saves a lab of two regions, changes it, goes back, and
// uses what came back: titles play from both, stores replicate, and a region is
// evacuated.
func TestSnapshotRegions(t *testing.T) {
	long(t)
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			l := up(t, rt, "--regions", "2")
			file := film(t)
			l.must("title", "add", file, "--name", "Before")
			east, west := l.kv("us-east"), l.kv("us-west")
			mustPut(t, east, "before")
			await(t, rt.patience(10*time.Second), "the write to be in us-west", func() error { return readBack(t, west, "before") })
			l.must("lab", "snapshot", "save", "two")
			l.must("title", "add", file, "--name", "After")
			r := l.must("lab", "snapshot", "restore", "two", "--force")
			t.Logf("restored in %s", r.took.Round(time.Millisecond))
			t.Cleanup(func() { l.must("lab", "snapshot", "rm", "two") })

			titles := map[string]bool{}
			for _, x := range read[titleList](l, "title", "ls").Titles {
				titles[x.ID] = x.Live
			}
			if !titles["before"] || titles["after"] {
				t.Errorf("titles %v: want before and not after", titles)
			}
			for _, region := range []string{"us-east", "us-west"} {
				p := l.play("--title", "Before", "--region", region, "--speed", "100x")
				if p.SecondsPlayed < 5.5 || !p.ChecksumOK || p.Region != region {
					t.Errorf("%s: %g s played by %s, checksum_ok %v, errors %v", region, p.SecondsPlayed, p.Region, p.ChecksumOK, p.Errors)
				}
			}
			east, west = l.kv("us-east"), l.kv("us-west")
			for name, store := range map[string]kv.Store{"us-east": east, "us-west": west} {
				if err := readBack(t, store, "before"); err != nil {
					t.Errorf("what was saved, in %s: %v", name, err)
				}
			}
			mustPut(t, west, "restored")
			await(t, rt.patience(15*time.Second), "a write of us-west to be in us-east", func() error { return readBack(t, east, "restored") })
			l.must("title", "add", file, "--name", "Later") // SQL, objects, events and fill
			if p := l.play("--title", "Later", "--region", "us-west", "--speed", "100x"); p.SecondsPlayed < 5.5 || !p.ChecksumOK {
				t.Errorf("a title that was added after: %+v", p)
			}
			if d := l.diff(); !d.Equal {
				t.Errorf("it differs: %+v", d.Differences)
			}
			if _, r := l.move("failover", "us-east"); r.code != 0 {
				t.Fatalf("it failed: %s", r.story())
			}
			if p := l.play(quick("us-east")...); p.Region != "us-west" {
				t.Errorf("a play near us-east is answered by %s", p.Region)
			}
		})
	}
}
