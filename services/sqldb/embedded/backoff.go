package embedded

import (
	"sync"
	"time"
)

// firstBackoff is the pause after the first failure; it doubles with each one
// in a row.
const firstBackoff = 10 * time.Millisecond

// backoff counts failures in a row.
type backoff struct {
	most time.Duration

	mu    sync.Mutex
	pause time.Duration
}

func (b *backoff) next() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = min(max(2*b.pause, firstBackoff), max(b.most, firstBackoff))
	return b.pause
}

func (b *backoff) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = 0
}
