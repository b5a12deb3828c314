package gateway

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/services/token"
)

// tokenSlots bounds the verified tokens that are remembered.
const tokenSlots = 4096

// tokenCache remembers tokens that were verified, until they expire: checking
// the signature and reading the claims costs more than the rest of the chain.
// A slot is found by a hash with a seed of its own and holds the last token
// that fell on it.
type tokenCache struct {
	seed  maphash.Seed
	slots [tokenSlots]atomic.Pointer[verified]
}

type verified struct {
	token  string
	claims token.Claims
}

func newTokenCache() *tokenCache { return &tokenCache{seed: maphash.MakeSeed()} }

// verify is key.Verify for the audience token.Member. The claims are shared:
// they must not be changed.
func (c *tokenCache) verify(key token.Key, tok string, now time.Time) (*token.Claims, error) {
	slot := &c.slots[maphash.String(c.seed, tok)%tokenSlots]
	if v := slot.Load(); v != nil && v.token == tok && now.Unix() < v.claims.Expires {
		return &v.claims, nil
	}
	claims, err := key.Verify(token.Member, tok, now)
	if err != nil {
		return nil, err
	}
	// The codec's buffers may be used again for the next request.
	v := &verified{token: strings.Clone(tok), claims: claims}
	slot.Store(v)
	return &v.claims, nil
}

// authenticate verifies the member token, if there is one. Whether one is
// needed is the route's to say.
func (s *Server) authenticate(ex *Exchange) error {
	scheme, tok, ok := strings.Cut(ex.Request.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	ex.Member, ex.authErr = s.tokens.verify(s.d.Key, strings.TrimSpace(tok), ex.Received)
	return nil
}
