package lab

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/flix-lab/flix/services/token"
)

// ticketsLast is how long tickets are made with one key; they are taken for as
// long again.
const ticketsLast = time.Hour

// tickets makes and reads TLS session tickets with keys that every edge of a scope
// has, in whatever process, so that a client which comes back resumes its session
// at any of them, and after a restart too. The keys come from the lab's and from
// the time, so nobody hands them round. Who gets hold of one can pass for an edge
// until it is no longer taken, but reads nothing that was sent: a session of TLS
// 1.3 that is resumed agrees on new secrets all the same (psk_dhe_ke, RFC 8446,
// 4.2.9).
type tickets struct {
	key   token.Key
	scope string
	now   func() time.Time

	mu     sync.Mutex
	period int64
	// keys has those of the period and of the one before.
	keys *tls.Config
}

func newTickets(key token.Key, scope string, now func() time.Time) *tickets {
	return &tickets{key: key, scope: scope, now: now}
}

// wrap is a tls.Config's WrapSession.
func (t *tickets) wrap(s tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
	return t.current().EncryptTicket(s, state)
}

// unwrap is a tls.Config's UnwrapSession.
func (t *tickets) unwrap(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
	return t.current().DecryptTicket(ticket, s)
}

// current has the keys of now.
func (t *tickets) current() *tls.Config {
	period := t.now().Unix() / int64(ticketsLast/time.Second)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys == nil || t.period != period {
		t.keys, t.period = new(tls.Config), period
		t.keys.SetSessionTicketKeys([][32]byte{t.of(period), t.of(period - 1)})
	}
	return t.keys
}

// of derives the key of a period.
func (t *tickets) of(period int64) [32]byte {
	return [32]byte(t.key.Derive(token.Audience(fmt.Sprintf("tickets of the %s, %d", t.scope, period))))
}
