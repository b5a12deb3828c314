package embedded

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWritesGather(t *testing.T) {
	for _, c := range []struct {
		name string
		// awaited is how long after the begin somebody awaits a write, and which;
		// none if 0.
		after   time.Duration
		awaited uint64
		want    time.Duration
	}{
		{"nobody waits", 0, 0, gathering},
		{"for one that was sent", gathering / 4, 5, gathering},
		{"for one that was not", gathering / 4, 6, gathering / 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &flow{l: &replicator{}, pos: 5}
				begun := time.Now()
				if c.awaited > 0 {
					time.AfterFunc(c.after, func() { f.l.hurry(c.awaited) })
				}
				f.gather(t.Context())
				if took := time.Since(begun); took != c.want {
					t.Errorf("writes gathered for %v, want %v", took, c.want)
				}
			})
		})
	}
}

func TestAwaitedWriteGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flow{l: &replicator{}, pos: 5}
		f.l.hurry(6) // before the sender rests
		begun := time.Now()
		f.gather(t.Context())
		if took := time.Since(begun); took != 0 {
			t.Errorf("an awaited write was held back for %v", took)
		}
	})
}

func TestGatheringEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flow{l: &replicator{}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		f.gather(ctx)
		if took := time.Since(begun); took != 0 {
			t.Errorf("a sender that is to end rested for %v", took)
		}
	})
}
