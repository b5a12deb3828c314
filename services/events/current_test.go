package events

import (
	"testing"

	"github.com/flix-lab/flix/services/telemetry"
)

// TestOldCheckpointIsNotCurrent: as long as a checkpoint does not know what the
// region's group has committed, it is old, however many records wait behind it.
func TestOldCheckpointIsNotCurrent(t *testing.T) {
	ctx, from, to := soon(t), newBroker(t), newBroker(t)
	sendPlayback(ctx, t, from, 0, 20)
	handled(ctx, t, from, "keystone", TopicPlayback, 20)
	current := func() bool {
		t.Helper()
		now, err := CheckpointIsCurrent(ctx, handover(from, to))
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	stop := replicate(t, from, to, telemetry.Discard())
	until(ctx, t, "the copies are there", func() bool { n, err := waiting(ctx, from, to); return err == nil && n == 0 && current() })
	stop()
	sendPlayback(ctx, t, from, 20, 40) // not copied, and nothing of it is handled
	if !current() {
		t.Error("a checkpoint is old since events came")
	}
	handled(ctx, t, from, "keystone", TopicPlayback, 20)
	if n, err := waiting(ctx, from, to); err != nil || n != 0 || current() {
		t.Errorf("%d records wait behind a checkpoint that is taken for a new one: %v", n, err)
	}
	stop = replicate(t, from, to, telemetry.Discard())
	defer stop()
	until(ctx, t, "the checkpoint follows", current)
	if n, err := waiting(ctx, from, to); err != nil || n != 0 {
		t.Errorf("%d records wait, %v", n, err)
	}
}
