package objects

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

// shop is an S3 store and a client of it, whatever the store is.
type shop struct {
	t      testing.TB
	addr   string
	client *Client
}

func newShop(t testing.TB, addr string) shop {
	t.Helper()
	c, err := NewClient(ClientConfig{Endpoint: StaticEndpoint(addr), AccessKey: testKey, SecretKey: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return shop{t, addr, c}
}

func (s shop) put(key string, data []byte) {
	s.t.Helper()
	if _, err := s.client.Put(s.t.Context(), BucketMedia, key, bytes.NewReader(data), int64(len(data)), "video/mp4"); err != nil {
		s.t.Fatal(err)
	}
}

func (s shop) get(key string, offset, length int64) []byte {
	s.t.Helper()
	rc, err := s.client.Get(s.t.Context(), BucketMedia, key, offset, length)
	if err != nil {
		s.t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// foreign returns a client that is not ours, with its library's defaults.
func (s shop) foreign() *minio.Client {
	s.t.Helper()
	tr := &http.Transport{}
	s.t.Cleanup(tr.CloseIdleConnections)
	c, err := minio.New(s.addr, &minio.Options{Creds: credentials.NewStaticV4(testKey, testSecret, ""), Transport: tr, MaxRetries: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// contract is what the lab expects of every store it may run on.
func contract(t *testing.T, addr string) {
	for _, c := range []struct {
		name string
		run  func(shop)
	}{
		{"round trip", roundTrip}, {"keys", oddKeys}, {"file", putFile}, {"unknown size", unknownSize}, {"multipart stays intact", multipart},
		{"parallel writers", parallelWriters}, {"list", listsKeys}, {"presign", presigning}, {"broken body", brokenBody}, {"wrong secret", wrongSecret},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t, addr)
			for range 2 { // a second time is no error
				if err := s.client.EnsureBucket(t.Context(), BucketMedia); err != nil {
					t.Fatal(err)
				}
			}
			c.run(s)
		})
	}
}

func TestContractEmbedded(t *testing.T) { contract(t, newRig(t).addr) }

func roundTrip(s shop) {
	t, ctx := s.t, s.t.Context()
	data := noise(300_000, 1)
	key := "titles/tt-ä b+c/1/v1.mp4"
	s.put(key, data)
	for _, r := range []struct{ offset, length, from, to int64 }{
		{0, 0, 0, 300_000}, {1000, 500, 1000, 1500}, {299_990, 0, 299_990, 300_000}, {0, 1, 0, 1}, {299_999, 10, 299_999, 300_000},
	} {
		if got := s.get(key, r.offset, r.length); !bytes.Equal(got, data[r.from:r.to]) {
			t.Errorf("%d bytes from %d came back different", r.length, r.offset)
		}
	}
	info, err := s.client.Stat(ctx, BucketMedia, key)
	if err != nil || info.Size != 300_000 || info.ContentType != "video/mp4" || time.Since(info.Modified).Abs() > time.Minute {
		t.Errorf("Stat = %+v, %v", info, err)
	}
	if info.SHA256 != "" && info.SHA256 != sum(data) {
		t.Errorf("SHA-256 %s, want %s", info.SHA256, sum(data))
	}
	if _, err := s.client.Get(ctx, BucketMedia, key, 300_000, 10); services.KindOf(err) != services.Invalid {
		t.Errorf("a range beyond the end: %v", err)
	}
	s.put(key, nil) // replaced, and empty
	if got := s.get(key, 0, 0); len(got) != 0 {
		t.Errorf("an empty object has %d bytes", len(got))
	}
	for range 2 { // deleting what is not there is no error
		if err := s.client.Delete(ctx, BucketMedia, key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.client.Stat(ctx, BucketMedia, key); services.KindOf(err) != services.NotFound {
		t.Errorf("Stat of a deleted object: %v", err)
	}
	if _, err := s.client.Get(ctx, BucketMedia, key, 0, 0); services.KindOf(err) != services.NotFound {
		t.Errorf("Get of a deleted object: %v", err)
	}
	if _, err := s.client.Get(ctx, "nothing-here", key, 0, 0); services.KindOf(err) != services.NotFound {
		t.Errorf("Get from no bucket: %v", err)
	}
	if _, err := s.client.Put(ctx, "nothing-here", key, strings.NewReader("x"), 1, ""); services.KindOf(err) != services.NotFound {
		t.Errorf("Put to no bucket: %v", err)
	}
}

// A signature covers the key as the client escapes it: whoever hands a request
// on must not clean it.
func oddKeys(s shop) {
	for _, key := range []string{"a+b", "a b", "ä/ö", "100%", "a%2Fb", "x=y&z", "q?m", "tilde~", "semi;colon", "quote'\"", "a:b", "star*", "(1)"} {
		s.put("odd/"+key, []byte(key))
		if got := s.get("odd/"+key, 0, 0); string(got) != key {
			s.t.Errorf("key %q has %q", key, got)
		}
	}
}

func putFile(s shop) {
	path := filepath.Join(s.t.TempDir(), "f")
	data := noise(9<<20, 2)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	up, err := s.client.PutFile(s.t.Context(), BucketMedia, "f", f, "x/y")
	if err != nil || up.Size != int64(len(data)) {
		s.t.Fatalf("%+v, %v", up, err)
	}
	if got := s.get("f", 0, 0); sum(got) != sum(data) {
		s.t.Error("the file came back different")
	}
}

func unknownSize(s shop) {
	data := noise(17<<20, 4)
	if _, err := s.client.Put(s.t.Context(), BucketMedia, "s", io.MultiReader(bytes.NewReader(data)), -1, ""); err != nil {
		s.t.Fatal(err)
	}
	if sum(s.get("s", 0, 0)) != sum(data) {
		s.t.Error("the stream came back different")
	}
}

// The library's default upload of a large object goes in signed chunks within
// parts; a server that keeps the chunk headers corrupts it.
func multipart(s shop) {
	data := noise(40<<20, 3)
	mc := s.foreign()
	for part, upload := range map[int]func() (string, error){
		16 << 20: func() (string, error) {
			up, err := mc.PutObject(s.t.Context(), BucketMedia, "big", bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{})
			return up.ETag, err
		},
		partSize: func() (string, error) {
			up, err := s.client.Put(s.t.Context(), BucketMedia, "big", bytes.NewReader(data), int64(len(data)), "video/mp4")
			return up.ETag, err
		},
	} {
		etag, err := upload()
		if err != nil {
			s.t.Fatal(err)
		}
		if n := (len(data) + part - 1) / part; !strings.HasSuffix(etag, fmt.Sprint("-", n)) {
			s.t.Errorf("etag %s: not an upload of %d parts", etag, n)
		}
		if got := s.get("big", 0, 0); sum(got) != sum(data) {
			s.t.Errorf("read back %d bytes: not what was sent", len(got))
		}
		if got := s.get("big", int64(part)-50, 100); !bytes.Equal(got, data[part-50:part+50]) {
			s.t.Error("a range over the seam of two parts came back different")
		}
	}
}

func parallelWriters(s shop) {
	var versions [8][]byte
	sums := map[string]bool{}
	for i := range versions {
		versions[i] = noise(200_000+i, uint64(10+i))
		sums[sum(versions[i])] = true
	}
	s.put("k", versions[0])
	var wg sync.WaitGroup
	for _, v := range versions {
		wg.Go(func() { s.put("k", v) })
		wg.Go(func() {
			if !sums[sum(s.get("k", 0, 0))] {
				s.t.Error("a reader got a mixture of versions")
			}
		})
	}
	wg.Wait()
	if !sums[sum(s.get("k", 0, 0))] {
		s.t.Error("the object is a mixture of versions")
	}
}

func listsKeys(s shop) {
	keys := []string{"list/a-b", "list/a/b", "list/b", "list/ü 1"}
	for i, k := range keys {
		s.put(k, bytes.Repeat([]byte("x"), i))
	}
	infos, err := s.client.List(s.t.Context(), BucketMedia, "list/")
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for i, in := range infos {
		got = append(got, in.Key)
		if in.Size != int64(i) || in.ETag == "" {
			s.t.Errorf("%+v", in)
		}
	}
	if !slices.Equal(got, keys) {
		s.t.Errorf("got %q, want %q in that order", got, keys)
	}
	if infos, err := s.client.List(s.t.Context(), BucketMedia, "list/none"); err != nil || len(infos) != 0 {
		s.t.Errorf("%v, %v", infos, err)
	}
}

// read fetches a URL without credentials.
func read(t testing.TB, url, rng string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// An appliance has nothing but the URL. What is signed is the address it dials.
func presigning(s shop) {
	key := "titles/ä b+c/1/v1.mp4"
	s.put(key, []byte("0123456789"))
	u, err := s.client.Presign(s.t.Context(), BucketMedia, key, time.Minute)
	if err != nil {
		s.t.Fatal(err)
	}
	if p, err := url.Parse(u); err != nil || p.Host != s.addr {
		s.t.Errorf("the URL leads to %v, %v; want %s", p, err, s.addr)
	}
	if code, body := read(s.t, u, ""); code != http.StatusOK || body != "0123456789" {
		s.t.Errorf("%d %s", code, body)
	}
	if code, body := read(s.t, u, "bytes=3-6"); code != http.StatusPartialContent || body != "3456" {
		s.t.Errorf("%d %s", code, body)
	}
	if code, body := read(s.t, strings.Replace(u, "v1.mp4", "v2.mp4", 1), ""); code != http.StatusForbidden {
		s.t.Errorf("another key: %d %s", code, body)
	}
	old := presign(presigned{host: s.addr, bucket: BucketMedia, key: key, accessKey: testKey, secretKey: testSecret, ttl: time.Minute, at: time.Now().Add(-2 * time.Minute)})
	if code, body := read(s.t, old, ""); code != http.StatusForbidden {
		s.t.Errorf("an expired URL: %d %s", code, body)
	}
	missing, err := s.client.Presign(s.t.Context(), BucketMedia, "none", time.Minute)
	if err != nil {
		s.t.Fatal(err)
	}
	if code, body := read(s.t, missing, ""); code != http.StatusNotFound {
		s.t.Errorf("a URL of nothing: %d %s", code, body)
	}
}

// A body that is not what was signed leaves nothing behind.
func brokenBody(s shop) {
	ctx := s.t.Context()
	for name, o := range map[string]minio.PutObjectOptions{"broken sha256": {UserMetadata: map[string]string{"x-amz-checksum-sha256": strings.Repeat("A", 43) + "="}, DisableContentSha256: true}} {
		if _, err := s.foreign().PutObject(ctx, BucketMedia, name, strings.NewReader("data"), 4, o); minio.ToErrorResponse(err).StatusCode != http.StatusBadRequest {
			s.t.Errorf("%s: %v", name, err)
		}
		if _, err := s.client.Stat(ctx, BucketMedia, name); services.KindOf(err) != services.NotFound {
			s.t.Errorf("%s is there: %v", name, err)
		}
	}
	// A sender that ends in the middle.
	if _, err := s.client.Put(ctx, BucketMedia, "short", io.LimitReader(bytes.NewReader(noise(1<<20, 9)), 1<<19), 1<<20, ""); err == nil {
		s.t.Error("half an object was taken for a whole one")
	}
	if _, err := s.client.Stat(ctx, BucketMedia, "short"); services.KindOf(err) != services.NotFound {
		s.t.Errorf("half an object is there: %v", err)
	}
}

func wrongSecret(s shop) {
	c, err := NewClient(ClientConfig{Endpoint: StaticEndpoint(s.addr), AccessKey: testKey, SecretKey: "wrong"})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	s.put("secret", []byte("x"))
	if _, err := c.Get(s.t.Context(), BucketMedia, "secret", 0, 0); services.KindOf(err) != services.Denied {
		s.t.Errorf("Get with a wrong secret: %v", err)
	}
	if code, body := read(s.t, "http://"+s.addr+"/"+BucketMedia+"/secret", ""); code != http.StatusForbidden {
		s.t.Errorf("Get without any: %d %s", code, body)
	}
}

// beside is a store with a sidecar before it.
type beside struct {
	shop
	sidecar *Sidecar
	tel     *telemetry.Telemetry
	dir     string
	changes chan bool
	stop    func()
}

// newBeside starts a sidecar of the store at target and waits until it serves.
func newBeside(t testing.TB, target, dir string) *beside {
	t.Helper()
	ln := listen(t)
	b := &beside{tel: telemetry.Discard(), dir: dir, changes: make(chan bool, 16), shop: newShop(t, ln.Addr().String())}
	var err error
	b.sidecar, err = NewSidecar(SidecarConfig{Target: target, Listener: ln, Dir: dir, AccessKey: testKey, SecretKey: testSecret, Tel: b.tel,
		OnHealth: func(up bool) { b.changes <- up }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.sidecar.Serve(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(b.stop)
	ready, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := b.sidecar.Ready(ready); err != nil {
		t.Fatal(err)
	}
	return b
}

// turns waits until the store counts as up, or as down, and that was told.
func (b *beside) turns(up bool) {
	b.t.Helper()
	for late := time.After(patience); ; {
		select {
		case is := <-b.changes:
			if is == up && b.sidecar.Healthy() == up {
				return
			}
		case <-late:
			b.t.Fatalf("the store does not count as up=%v", up)
		}
	}
}

// cutOff reads a little of an object and goes away.
func (b *beside) cutOff(key string) {
	b.t.Helper()
	u, err := b.client.Presign(b.t.Context(), BucketMedia, key, time.Minute)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		b.t.Fatal(err)
	}
}

// counts checks that the door counts what was served: whole, ranged and cut
// off.
func (b *beside) counts() {
	t := b.t
	const size = 64 << 20
	b.put("counted", noise(size, 20))
	before := b.sidecar.EgressBytes(BucketMedia)
	served := func() uint64 { return b.sidecar.EgressBytes(BucketMedia) - before }
	b.get("counted", 0, 0)
	settles(t, "a whole GET", served, size)
	b.get("counted", 100, 1000)
	settles(t, "with a range of 1000 bytes", served, size+1000)
	if _, err := b.client.Stat(t.Context(), BucketMedia, "counted"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.List(t.Context(), BucketMedia, ""); err != nil {
		t.Fatal(err)
	}
	if n := served(); n != size+1000 {
		t.Fatalf("HEAD and LIST count %d bytes", n-size-1000)
	}
	b.cutOff("counted")
	// What lies in the kernel's buffers when the client goes was sent, too.
	const buffered = 16 << 20
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for late := time.After(patience); served() == size+1000; {
		select {
		case <-late:
			t.Fatal("a GET that was cut off is not counted")
		case <-poll.C:
		}
	}
	if n := served() - size - 1000; n < 1000 || n > buffered {
		t.Errorf("a GET cut off after 1000 bytes counts %d, want what went out and not the whole %d", n, size)
	}
}

func fmtCount(op string, code int) map[string]string {
	return map[string]string{"op": op, "code": fmt.Sprint(code)}
}
