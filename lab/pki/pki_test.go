package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"
)

func parse(t *testing.T, b []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatal("no PEM block")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEdgesAreTrusted(t *testing.T) {
	now := time.Now()
	b, err := New("x", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(b.Cert, b.Key); err != nil {
		t.Fatalf("certificate and key do not belong together: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b.CA) {
		t.Fatal("the authority's certificate is none")
	}
	leaf := parse(t, b.Cert)
	for name, ok := range map[string]bool{
		"api.flix.test": true, "play.flix.test": true, "oca-1-us-east-isp-1.oc.flix.test": true, "localhost": true, "x.localhost": true, "127.0.0.1": true,
		"example.com": false, "a.b.flix.test": false, "flix.test.example.com": false, "10.0.0.1": false,
	} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: now})
		if (err == nil) != ok {
			t.Errorf("%s: %v, want it trusted: %v", name, err, ok)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now.Add(lifetime + time.Hour)}); err == nil {
		t.Error("it never expires")
	}
	other, err := New("y", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(t, other.Cert).Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now}); err == nil {
		t.Error("one lab trusts another's edges")
	}
}

// TestAuthorityIsBounded reads the constraints that keep the authority harmless
// even if its key had been kept.
func TestAuthorityIsBounded(t *testing.T) {
	b, err := New("x", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca := parse(t, b.CA)
	if !ca.IsCA || !ca.PermittedDNSDomainsCritical || len(ca.PermittedDNSDomains) != 2 || len(ca.PermittedIPRanges) != 1 || !ca.MaxPathLenZero {
		t.Errorf("constraints: domains %v (critical %v), addresses %v, path length zero %v", ca.PermittedDNSDomains, ca.PermittedDNSDomainsCritical, ca.PermittedIPRanges, ca.MaxPathLenZero)
	}
	if leaf := parse(t, b.Cert); leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("the edges' certificate can sign others")
	}
}
