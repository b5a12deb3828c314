package control

import (
	"encoding/json"
	"testing"

	"github.com/flix-lab/flix/lab/autoscale"
)

// A schedule without windows drops the one there is, on its way over the wire,
// too; one that was not named keeps it.
func TestScheduleIsDropped(t *testing.T) {
	none, err := autoscale.ParseSchedule("")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change ScaleChange
		left   int
	}{"dropped": {ScaleChange{Schedule: &none}, 0}, "kept": {ScaleChange{}, 1}} {
		b, err := json.Marshal(c.change)
		if err != nil {
			t.Fatal(err)
		}
		var got ScaleChange
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		p := autoscale.Policy{Schedule: []autoscale.Window{{From: 60, To: 120, Count: 3}}}
		got.Apply(&p)
		if len(p.Schedule) != c.left {
			t.Errorf("%s, sent as %s: %v is left", name, b, p.Schedule)
		}
	}
}
