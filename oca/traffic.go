package oca

import "sync"

// traffic counts bytes sent by title since it was last taken. Its titles are
// those of valid tokens. Safe for concurrent use.
type traffic struct {
	mu    sync.Mutex
	bytes map[string]int64
}

func (t *traffic) add(title string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bytes == nil {
		t.bytes = map[string]int64{}
	}
	t.bytes[title] += n
}

// take returns the counts and begins anew.
func (t *traffic) take() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.bytes
	t.bytes = nil
	return b
}
