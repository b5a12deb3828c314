package oca

import (
	"sync"
	"time"

	"github.com/flix-lab/flix/services/token"
)

// maxAdmitted bounds the tokens remembered: at under a kilobyte each, two
// megabytes at the very most.
const maxAdmitted = 2048

// admitted remembers the claims of tokens whose signature was checked, since a
// player asks with one token for every segment. Expiry is checked each time.
// Safe for concurrent use.
type admitted struct {
	mu     sync.RWMutex
	claims map[string]token.Claims
}

// verify is token.Key.Verify for URL tokens.
func (a *admitted) verify(k token.Key, tok string, now time.Time) (token.Claims, error) {
	a.mu.RLock()
	c, ok := a.claims[tok]
	a.mu.RUnlock()
	if ok && now.Unix() < c.Expires {
		return c, nil
	}
	c, err := k.Verify(token.URL, tok, now)
	if err != nil {
		return c, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.claims == nil || len(a.claims) >= maxAdmitted {
		a.claims = map[string]token.Claims{}
	}
	a.claims[tok] = c
	return c, nil
}
