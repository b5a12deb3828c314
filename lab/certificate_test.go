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

// newPairFiles are those of a server whose name is "first".
func newPairFiles(t *testing.T) pairFiles {
	d := t.TempDir()
	f := pairFiles{filepath.Join(d, "cert.pem"), filepath.Join(d, "key.pem")}
	f.replace(t, "first")
	return f
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

// inBackground runs a server until the test ends, and returns what hangs it up.
func inBackground(t *testing.T, serve func(ctx context.Context, hangup <-chan os.Signal) error) chan<- os.Signal {
	t.Helper()
	signals := make(chan os.Signal)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, signals) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return signals
}

// serveFolder serves an empty folder until the test ends, and returns its address
// and what hangs it up.
func serveFolder(t *testing.T, o ServeFolderOptions) (addr string, out *said, hangup chan<- os.Signal) {
	t.Helper()
	out = &said{}
	o.Root, o.Listen, o.NoAuth, o.Out, o.Err = t.TempDir(), "127.0.0.1:0", true, out, out
	hangup = inBackground(t, func(ctx context.Context, again <-chan os.Signal) error {
		o.Reload = again
		return ServeFolder(ctx, o)
	})
	return out.await(t, `at https?://([^/]+)/`), out, hangup
}

// serveGateway is serveFolder for a gateway that stands alone, in front of nothing.
func serveGateway(t *testing.T, o GatewayOptions) (addr string, out *said, hangup chan<- os.Signal) {
	t.Helper()
	out = &said{}
	o.Listen, o.Routes = "127.0.0.1:0", []string{"/=http://127.0.0.1:9"}
	hangup = inBackground(t, func(ctx context.Context, again <-chan os.Signal) error {
		o.Reload = again
		return RunGateway(ctx, Env{Getenv: func(string) string { return "" }}, o, out)
	})
	return out.await(t, `on https?://([^,]+),`), out, hangup
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

func TestServersFollowTheirCertificate(t *testing.T) {
	t.Run("folder", func(t *testing.T) {
		f := newPairFiles(t)
		addr, out, hangup := serveFolder(t, ServeFolderOptions{CertFile: f.cert, KeyFile: f.key})
		followsItsCertificate(t, f, addr, out, hangup)
	})
	t.Run("gateway", func(t *testing.T) {
		f := newPairFiles(t)
		addr, out, hangup := serveGateway(t, GatewayOptions{TLSCert: f.cert, TLSKey: f.key})
		followsItsCertificate(t, f, addr, out, hangup)
	})
}

// followsItsCertificate replaces the pair of files of a server at an address, whose
// name is "first".
func followsItsCertificate(t *testing.T, f pairFiles, addr string, out *said, hangup chan<- os.Signal) {
	t.Helper()
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
	_, folder, hangupFolder := serveFolder(t, ServeFolderOptions{})
	_, gateway, hangupGateway := serveGateway(t, GatewayOptions{})
	hangupFolder <- syscall.SIGHUP
	hangupGateway <- syscall.SIGHUP
	folder.await(t, "there is neither a certificate to read again")
	gateway.await(t, "there is no certificate to read again")
}
