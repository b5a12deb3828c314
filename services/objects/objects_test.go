package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
)

const (
	testKey    = "lab-key"
	testSecret = "lab-secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running server and a client of it.
type rig struct {
	t      testing.TB
	dir    string
	addr   string
	server *Server
	tel    *telemetry.Telemetry
	client *Client
	stop   func()
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), addr: addresstest.Host(t) + ":0"}
	r.start()
	t.Cleanup(func() { r.stop() })
	var err error
	r.client, err = NewClient(ClientConfig{Endpoint: func(context.Context) (string, error) { return r.addr, nil }, AccessKey: testKey, SecretKey: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.client.Close)
	if err := r.client.EnsureBucket(t.Context(), BucketMedia); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) start() {
	r.t.Helper()
	ln := r.listen()
	r.addr, r.tel = ln.Addr().String(), telemetry.Discard()
	s, err := NewServer(ServerConfig{Dir: r.dir, Listener: ln, AccessKey: testKey, SecretKey: testSecret, Tel: r.tel})
	if err != nil {
		r.t.Fatal(err)
	}
	r.server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	})
}

// listen binds the address; after a restart that is the old one, which somebody
// else may hold for a moment where there is but one address of loopback.
func (r *rig) listen() net.Listener {
	r.t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(patience); ; {
		ln, err := net.Listen("tcp", r.addr)
		if err == nil {
			return ln
		}
		select {
		case <-late:
			r.t.Fatal(err)
		case <-poll.C:
		}
	}
}

// minio returns a plain minio-go client of the server.
func (r *rig) minio(secret string, trailing bool) *minio.Client {
	r.t.Helper()
	tr := &http.Transport{}
	r.t.Cleanup(tr.CloseIdleConnections)
	c, err := minio.New(r.addr, &minio.Options{Creds: credentials.NewStaticV4(testKey, secret, ""), Transport: tr, TrailingHeaders: trailing, MaxRetries: 1})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) put(key string, data []byte) {
	r.t.Helper()
	if _, err := r.client.Put(r.t.Context(), BucketMedia, key, bytes.NewReader(data), int64(len(data)), "video/mp4"); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) get(key string, offset, length int64) []byte {
	r.t.Helper()
	rc, err := r.client.Get(r.t.Context(), BucketMedia, key, offset, length)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// noise is reproducible data that does not compress or repeat.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = src.Read(b)
	return b
}

func sum(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

// The library's default upload of a large object goes in signed chunks within
// parts; a server that keeps the chunk headers corrupts it.
func TestMultipartOverHTTPStaysIntact(t *testing.T) {
	for _, tc := range []struct {
		trailing bool
		size     int
		parts    string
	}{{false, 40 << 20, "-3"}, {true, 17 << 20, "-2"}} {
		t.Run(fmt.Sprintf("trailing=%v", tc.trailing), func(t *testing.T) {
			r := newRig(t)
			data := noise(tc.size, 3)
			mc := r.minio(testSecret, tc.trailing)
			up, err := mc.PutObject(t.Context(), BucketMedia, "big", bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(up.ETag, tc.parts) {
				t.Errorf("etag %s: not an upload of the parts %s", up.ETag, tc.parts)
			}
			obj, err := mc.GetObject(t.Context(), BucketMedia, "big", minio.GetObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer obj.Close()
			h := sha256.New()
			n, err := io.Copy(h, obj)
			if err != nil || n != int64(len(data)) || hex.EncodeToString(h.Sum(nil)) != sum(data) {
				t.Fatalf("read back %d bytes, %v: not what was sent", n, err)
			}
			if left, _ := os.ReadDir(filepath.Join(r.dir, uploadsDir)); len(left) != 0 {
				t.Errorf("%d uploads left behind", len(left))
			}
		})
	}
}

func TestDataAndEgressSurviveRestart(t *testing.T) {
	r := newRig(t)
	data := noise(100_000, 5)
	r.put("a/b", data)
	r.get("a/b", 0, 0)
	r.get("a/b", 10, 90)
	settles(t, "egress", func() uint64 { return r.server.EgressBytes(BucketMedia) }, 100_090)
	r.stop()
	// What a kill leaves behind: half an upload, and a torn log line.
	tmp := filepath.Join(r.dir, tempDir, "77")
	if err := os.WriteFile(tmp, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(r.dir, egressFile), "get media 12")
	r.start()
	if n := r.server.EgressBytes(BucketMedia); n != 100_090 {
		t.Errorf("egress %d after a restart, want 100090", n)
	}
	if _, err := os.Stat(tmp); !os.IsNotExist(err) {
		t.Errorf("the leftover is still there: %v", err)
	}
	if got := r.get("a/b", 0, 0); !bytes.Equal(got, data) {
		t.Error("the object came back different")
	}
	telemetrytest.Await(t, r.tel.Metrics, "s3_egress_bytes_total", map[string]string{"bucket": BucketMedia}, 200_090)
}

// patience bounds what is waited for: only a hang takes as long.
const patience = time.Minute

// settles waits until a count is what is wanted: a server counts an answer
// after the client has read it.
func settles(t testing.TB, what string, got func() uint64, want uint64) {
	t.Helper()
	late := time.After(patience)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for n := got(); n != want; n = got() {
		select {
		case <-late:
			t.Fatalf("%s %d, want %d", what, n, want)
		case <-poll.C:
		}
	}
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestOneServerPerDirectory(t *testing.T) {
	r := newRig(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = NewServer(ServerConfig{Dir: r.dir, Listener: ln, AccessKey: testKey, SecretKey: testSecret, Tel: telemetry.Discard()})
	if services.KindOf(err) != services.Conflict {
		t.Errorf("a second server on the directory: %v", err)
	}
}

func TestStoreOutOfReach(t *testing.T) {
	c, err := NewClient(ClientConfig{Endpoint: StaticEndpoint("127.0.0.1:1"), AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Stat(ctx, BucketMedia, "k"); services.KindOf(err) != services.Unavailable {
		t.Errorf("Stat without a store: %v", err)
	}
}
