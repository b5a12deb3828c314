package oca

import (
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/token"
)

// At most maxAdmitted tokens are remembered, at under a kilobyte each, and one
// that nobody comes with for one to two times admittedFor is forgotten: every
// play has a token of its own, and plays end.
const (
	maxAdmitted = 2048
	admittedFor = time.Minute
)

// admitted remembers the claims of tokens whose signature was checked, since a
// player asks with one token for every segment. Expiry is checked each time.
// Safe for concurrent use.
type admitted struct {
	mu     sync.RWMutex
	turned time.Time
	recent map[string]token.Claims // since turned
	before map[string]token.Claims // in the time before that
}

// verify is token.Key.Verify for URL tokens.
func (a *admitted) verify(k token.Key, tok string, now time.Time) (token.Claims, error) {
	a.mu.RLock()
	c, ok := a.recent[tok]
	ok = ok && !a.due(now)
	a.mu.RUnlock()
	if ok && now.Unix() < c.Expires {
		return c, nil
	}
	if c, ok = a.recall(tok, now); ok {
		return c, nil
	}
	c, err := k.Verify(token.URL, tok, now)
	if err != nil {
		return c, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(tok, c, now)
	return c, nil
}

// recall finds the claims of a token that was not asked with since the last turn.
func (a *admitted) recall(tok string, now time.Time) (token.Claims, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.recent[tok]
	if !ok {
		c, ok = a.before[tok]
	}
	if !ok || now.Unix() >= c.Expires {
		return token.Claims{}, false
	}
	a.note(tok, c, now)
	return c, true
}

// due says whether it is time to turn: what is recent becomes what was before.
// The clock may be set back.
func (a *admitted) due(now time.Time) bool {
	age := now.Sub(a.turned)
	return age < 0 || age >= admittedFor
}

func (a *admitted) note(tok string, c token.Claims, now time.Time) {
	if a.recent == nil || len(a.recent) >= maxAdmitted/2 || a.due(now) {
		a.before, a.recent, a.turned = a.recent, map[string]token.Claims{}, now
	}
	a.recent[strings.Clone(tok)] = c // the rest of the request's head may go
}
