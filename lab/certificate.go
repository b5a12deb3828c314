package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flix-lab/flix/lab/input"
	"github.com/flix-lab/flix/services"
)

// maxPEM bounds a file of keys or certificates, in bytes.
const maxPEM = 16 << 20

// certificate is a certificate with its key, in files that may be replaced while
// it serves. What cannot be used leaves in force what was there before.
type certificate struct {
	certFile, keyFile string
	// say hears of every change, in one line.
	say  func(text string)
	pair atomic.Pointer[tls.Certificate]

	mu   sync.Mutex
	seen [2]fs.FileInfo // of the files when they were last read; nil is not there
}

// givenCertificate is the certificate of the two files, nil if neither is given.
func givenCertificate(ctx context.Context, certFile, keyFile string, say func(string)) (*certificate, error) {
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil
	case certFile == "" || keyFile == "":
		return nil, services.Errorf(services.Invalid, "--tls-cert and --tls-key go together")
	}
	return newCertificate(ctx, certFile, keyFile, say)
}

// newCertificate reads the files; they have to be good.
func newCertificate(ctx context.Context, certFile, keyFile string, say func(string)) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, say: say, seen: states(certFile, keyFile)}
	pair, err := keyPair(ctx, certFile, keyFile)
	if err != nil {
		return nil, &services.Error{Kind: services.Invalid, Msg: fmt.Sprintf("cannot load the certificate --tls-cert %s with --tls-key %s", certFile, keyFile), Err: err, Remedy: "give the PEM files of a certificate and of its key"}
	}
	c.pair.Store(&pair)
	return c, nil
}

// config is TLS 1.3 with it, until ctx ends.
func (c *certificate) config(ctx context.Context) *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(ctx), nil },
		MinVersion:     tls.VersionTLS13,
	}
}

// current is the certificate for a handshake: that of the files as they are now,
// if they can be used. To look costs two stats; handshakes that come while the
// files are read take what is there.
func (c *certificate) current(ctx context.Context) *tls.Certificate {
	if c.mu.TryLock() {
		if now := states(c.certFile, c.keyFile); !alike(now[0], c.seen[0]) || !alike(now[1], c.seen[1]) {
			c.read(ctx, now)
		}
		c.mu.Unlock()
	}
	return c.pair.Load()
}

// onHangup calls f for each value of again, until ctx ends.
func onHangup(ctx context.Context, again <-chan os.Signal, f func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			f()
		}
	}
}

// reload reads the files whether they look changed or not.
func (c *certificate) reload(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read(ctx, states(c.certFile, c.keyFile))
}

// read takes the files up. What they were is looked up before they are read: a
// change meanwhile shows the next time. Called with the lock held.
func (c *certificate) read(ctx context.Context, now [2]fs.FileInfo) {
	c.seen = now
	pair, err := keyPair(ctx, c.certFile, c.keyFile)
	if err != nil {
		c.say(fmt.Sprintf("the certificate --tls-cert %s with --tls-key %s cannot be used, the one before stays in force: %v", c.certFile, c.keyFile, err))
		return
	}
	c.pair.Store(&pair)
	c.say(fmt.Sprintf("the certificate --tls-cert %s is in force, until %s", c.certFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339)))
}

// states are what tells the two files from what they were; nil is not there.
func states(certFile, keyFile string) (out [2]fs.FileInfo) {
	for i, name := range [2]string{certFile, keyFile} {
		if info, err := os.Stat(name); err == nil {
			out[i] = info
		}
	}
	return out
}

func alike(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// keyPair reads a certificate and its key.
func keyPair(ctx context.Context, cert, key string) (tls.Certificate, error) {
	certPEM, err := input.ReadFile(ctx, cert, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := input.ReadFile(ctx, key, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	if pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	return pair, err
}
