package lab

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pairFiles are a certificate and its key as an operator has them.
type pairFiles struct{ cert, key string }

func newPairFiles(t *testing.T) pairFiles {
	d := t.TempDir()
	return pairFiles{filepath.Join(d, "cert.pem"), filepath.Join(d, "key.pem")}
}

// replace writes a new pair as tools do, each file by a rename.
func (f pairFiles) replace(t *testing.T, name string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.write(t, f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

func (pairFiles) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// said is what a command says, for several goroutines.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// await waits until a line matches, and returns what its group holds.
func (s *said) await(t *testing.T, re string) string {
	t.Helper()
	want := regexp.MustCompile(re)
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		if m := want.FindStringSubmatch(s.String()); m != nil {
			return m[len(m)-1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never says %q:\n%s", re, s.String())
		}
	}
}

// serveFolder serves an empty folder until the test ends, and returns its address
// and what hangs it up.
func serveFolder(t *testing.T, o ServeFolderOptions) (addr string, out *said, hangup chan<- os.Signal) {
	t.Helper()
	signals, out := make(chan os.Signal), &said{}
	o.Root, o.Listen, o.NoAuth, o.Out, o.Err, o.Reload = t.TempDir(), "127.0.0.1:0", true, out, out, signals
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeFolder(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return out.await(t, `at https?://([^/]+)/`), out, signals
}

// subject is whom the server at an address says it is.
func subject(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestFolderFollowsItsCertificate(t *testing.T) {
	f := newPairFiles(t)
	f.replace(t, "first")
	addr, out, hangup := serveFolder(t, ServeFolderOptions{CertFile: f.cert, KeyFile: f.key})
	if got := subject(t, addr); got != "first" {
		t.Fatalf("it serves as %q", got)
	}
	f.replace(t, "second")
	if got := subject(t, addr); got != "second" {
		t.Errorf("with the files replaced it serves as %q:\n%s", got, out)
	}

	// A key of another certificate, files that are gone: what was there goes on,
	// and it is said once.
	key, err := os.ReadFile(f.key)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, f.key, []byte("no key"))
	for range 3 {
		if got := subject(t, addr); got != "second" {
			t.Errorf("with a bad key it serves as %q", got)
		}
	}
	if n := strings.Count(out.String(), "cannot be used, the one before stays in force"); n != 1 {
		t.Errorf("it says %d times that the pair is bad:\n%s", n, out)
	}
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	if got := subject(t, addr); got != "second" {
		t.Errorf("without a key it serves as %q", got)
	}
	f.write(t, f.key, key)
	if got := subject(t, addr); got != "second" || strings.Count(out.String(), "is in force, until ") != 2 {
		t.Errorf("with the key back it serves as %q:\n%s", got, out)
	}

	// A hangup reads them again, changed or not.
	hangup <- syscall.SIGHUP
	hangup <- syscall.SIGHUP // taken when the first is done
	out.await(t, `(?s)(is in force, until .*){3}`)
}

func TestHangupWithNothingToReadAgain(t *testing.T) {
	_, out, hangup := serveFolder(t, ServeFolderOptions{})
	hangup <- syscall.SIGHUP
	out.await(t, "there is neither a certificate to read again")
}
