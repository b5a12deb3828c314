package player

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"time"
)

// maxChains bounds the chains that a trust remembers.
const maxChains = 1024

// trust verifies servers as package tls does by itself, and remembers which
// chains of certificates hold: the plays of a player meet the same few servers
// again and again, and the signatures of a chain cost more than the rest of a
// client's handshake. That the server has the chain's key is proven to each
// connection all the same.
type trust struct {
	roots *x509.CertPool
	now   func() time.Time

	mu     sync.Mutex
	chains map[chain]validity
}

// chain is what a server showed, and as whom it did.
type chain struct {
	host string
	sum  [sha256.Size]byte // of its certificates
}

// validity is when every certificate of a chain is valid.
type validity struct{ from, to time.Time }

func newTrust(roots *x509.CertPool, now func() time.Time) *trust {
	return &trust{roots: roots, now: now, chains: make(map[chain]validity)}
}

// guard has a client verify its server by the trust.
func (t *trust) guard(c *tls.Config) {
	host, tickets := c.ServerName, c.ClientSessionCache
	c.InsecureSkipVerify = true // of package tls; VerifyConnection does it
	c.VerifyConnection = func(s tls.ConnectionState) error {
		err := t.verify(host, s.PeerCertificates)
		if err == nil {
			return nil
		}
		if s.DidResume {
			tickets.Put(host, nil) // the server may have a better chain to show
		}
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
}

// verify says whether the certificates, the server's own first, are a host's.
func (t *trust) verify(host string, certs []*x509.Certificate) error {
	now := t.now()
	c := chain{host: host, sum: sumOf(certs)}
	t.mu.Lock()
	v, known := t.chains[c]
	t.mu.Unlock()
	if known && !now.Before(v.from) && !now.After(v.to) {
		return nil
	}
	o := x509.VerifyOptions{Roots: t.roots, Intermediates: x509.NewCertPool(), DNSName: host, CurrentTime: now}
	for _, x := range certs[1:] {
		o.Intermediates.AddCert(x)
	}
	verified, err := certs[0].Verify(o)
	if err != nil {
		return err
	}
	v = validity{from: certs[0].NotBefore, to: certs[0].NotAfter}
	for _, x := range verified[0] {
		if x.NotBefore.After(v.from) {
			v.from = x.NotBefore
		}
		if x.NotAfter.Before(v.to) {
			v.to = x.NotAfter
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.chains) >= maxChains {
		clear(t.chains)
	}
	t.chains[c] = v
	return nil
}

// sumOf certificates, each of which says how long it is.
func sumOf(certs []*x509.Certificate) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, x := range certs {
		_, _ = h.Write(x.Raw) // never fails
	}
	h.Sum(sum[:0])
	return sum
}
