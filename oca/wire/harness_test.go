package wire

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience only bounds a test that would hang.
const patience = time.Minute

// fixed serves one file at every path but "/none", and notes what was done.
type fixed struct {
	mu   sync.Mutex
	file *File
	done []Answer
}

func (h *fixed) Serve(r *Request, a *Answer) {
	switch {
	case Method(r, a):
	case r.Path == "/none":
		a.Set("Cache-Control", "no-store")
		a.Text(r, 404, "text/plain", []byte("none\n"))
	default:
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.file.Acquire() {
			a.Content(r, h.file, time.Now())
		}
	}
}

// swap serves another file from now on.
func (h *fixed) swap(f *File) (old *File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, h.file = h.file, f
	return old
}

func (h *fixed) Done(_ *Request, a *Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = append(h.done, Answer{Status: a.Status, Sent: a.Sent, Err: a.Err})
}

func (h *fixed) answers() []Answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Answer(nil), h.done...)
}

// rig is a server of one file.
type rig struct {
	*fixed
	*Server
	addr string
	body []byte
	path string // of the file
	etag string
}

func newBody(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

var modified = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func openBody(t testing.TB, body []byte, grow Growth) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.mp4")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return NewFile(f, NewMeta(int64(len(body)), `"tag"`, modified, "video/mp4", "public, no-cache"), grow), path
}

// newRig starts a server; change may alter its configuration.
func newRig(t testing.TB, size int, change func(*Config)) *rig {
	t.Helper()
	body := newBody(size)
	file, path := openBody(t, body, nil)
	r := &rig{fixed: &fixed{file: file}, body: body, path: path, etag: `"tag"`}
	c := Config{Handler: r.fixed, Fields: CrossOrigin(), Prompt: true, HeadTimeout: patience, IdleTimeout: patience, StallTimeout: patience, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	r.Server = New(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		file.Release()
	})
	return r
}

func withTLS(t testing.TB) func(*Config) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "oca"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}
	}
}

// client is an HTTP client for one protocol.
func client(t testing.TB, h2 bool) *http.Client {
	tr := &http.Transport{ForceAttemptHTTP2: h2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	if !h2 {
		tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// dial opens a raw connection that gives up after the patience.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// raw sends bytes and reads the answer to one request.
func raw(t testing.TB, c net.Conn, br *bufio.Reader, text string) (*http.Response, []byte) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, br, methodOf(text))
}

func methodOf(text string) string {
	m, _, _ := strings.Cut(strings.TrimLeft(text, "\r\n"), " ")
	return m
}

func readAnswer(t testing.TB, br *bufio.Reader, method string) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("body: %v", err)
	}
	return resp, b
}

// closed fails unless the server closes the connection without another byte.
func closed(t testing.TB, br *bufio.Reader) {
	t.Helper()
	if b, err := io.ReadAll(br); len(b) > 0 || err != nil && !isReset(err) {
		t.Errorf("the connection is not closed: %d bytes %q, %v", len(b), b[:min(len(b), 80)], err)
	}
}

func isReset(err error) bool { return strings.Contains(err.Error(), "reset by peer") }

func eventually(t testing.TB, ok func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + why)
		}
		<-tick.C
	}
}
