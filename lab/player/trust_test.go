package player

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/flix-lab/flix/lab/pki"
)

// issued is a server's certificate, and the pool of who issued it.
func issued(t testing.TB, at time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	b, err := pki.New("test", at)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(b.Cert, b.Key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.CA)
	return cert, pool
}

// secureServer answers TLS handshakes on loopback with the certificate that it
// is told last, and greets.
func secureServer(t testing.TB, cert func() tls.Certificate) string {
	t.Helper()
	raw := listen(t)
	config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := cert()
		return &c, nil
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := raw.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				s := tls.Server(conn, config)
				_, _ = s.Write([]byte("hello"))
				_, _ = s.Read(make([]byte, 1)) // until the client leaves
			}()
		}
	}()
	t.Cleanup(func() { raw.Close(); <-done })
	return raw.Addr().String()
}

// meet makes one connection and reads the greeting, and the ticket before it.
func meet(t testing.TB, c *connector, addr, host string) (tls.ConnectionState, error) {
	t.Helper()
	conn, err := dialTCP(context.Background(), addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.tls(context.Background(), conn, host)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer s.Close()
	_, err = s.Read(make([]byte, 5))
	return s.ConnectionState(), err
}

func TestTrustRemembersWhatHeld(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	now := begin
	cert, roots := issued(t, begin)
	other, _ := issued(t, begin)
	shown := cert
	addr := secureServer(t, func() tls.Certificate { return shown })
	trust := newTrust(roots, func() time.Time { return now })
	try := func(tickets tls.ClientSessionCache, host string) (tls.ConnectionState, error) {
		return meet(t, &connector{trust: trust, tickets: tickets}, addr, host)
	}
	refused := func(what string, err error) {
		t.Helper()
		var wrong *tls.CertificateVerificationError
		if !errors.As(err, &wrong) || len(wrong.UnverifiedCertificates) == 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	device := NewTickets()
	for range 2 {
		if _, err := try(NewTickets(), "play.flix.test"); err != nil {
			t.Fatal(err)
		}
	}
	if len(trust.chains) != 1 {
		t.Errorf("%d chains remembered of one", len(trust.chains))
	}
	if _, err := try(device, "play.flix.test"); err != nil {
		t.Fatal(err)
	}
	if s, err := try(device, "play.flix.test"); err != nil || !s.DidResume {
		t.Errorf("resumed %v, %v", s.DidResume, err)
	}
	_, err := try(NewTickets(), "example.com")
	refused("another host", err)

	shown = other
	_, err = try(NewTickets(), "play.flix.test")
	refused("another authority", err)
	shown = cert

	now = begin.Add(365 * 24 * time.Hour)
	_, err = try(NewTickets(), "play.flix.test")
	refused("out of date", err)
	_, err = try(device, "play.flix.test")
	refused("a session of a certificate out of date", err)
	now = begin.Add(-2 * time.Hour)
	_, err = try(NewTickets(), "play.flix.test")
	refused("before its time", err)

	now = begin
	if s, err := try(device, "play.flix.test"); err != nil || s.DidResume {
		t.Errorf("after a session that was not trusted: resumed %v, %v", s.DidResume, err)
	}
}

func TestTrustIsBounded(t *testing.T) {
	t.Parallel()
	cert, roots := issued(t, time.Now())
	trust := newTrust(roots, time.Now)
	for i := range maxChains {
		trust.chains[chain{host: net.IPv4(10, 0, byte(i>>8), byte(i)).String()}] = validity{}
	}
	var certs []*x509.Certificate
	for _, der := range cert.Certificate {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, x)
	}
	if err := trust.verify("play.flix.test", certs); err != nil || len(trust.chains) != 1 {
		t.Errorf("%d chains, %v", len(trust.chains), err)
	}
}

// BenchmarkHandshake is a client's part and a server's of a connection that no
// ticket makes shorter.
func BenchmarkHandshake(b *testing.B) {
	cert, roots := issued(b, time.Now())
	addr := secureServer(b, func() tls.Certificate { return cert })
	trust := newTrust(roots, time.Now)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := meet(b, &connector{trust: trust, tickets: NewTickets(), lean: true, bufs: newBuffers()}, addr, "play.flix.test"); err != nil {
			b.Fatal(err)
		}
	}
}
