package events

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestGather(t *testing.T) {
	for _, c := range []struct{ since, d, want time.Duration }{
		{0, 50 * time.Millisecond, 50 * time.Millisecond},
		{20 * time.Millisecond, 50 * time.Millisecond, 30 * time.Millisecond},
		{time.Second, 50 * time.Millisecond, 0}, // the handling took long enough
		{time.Second, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			polled := time.Now()
			time.Sleep(c.since)
			handled := time.Now()
			gather(t.Context(), polled, c.d)
			if took := time.Since(handled); took != c.want {
				t.Errorf("%v after a poll records gathered for %v, want %v", c.since, took, c.want)
			}
		})
	}
}
