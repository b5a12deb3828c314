package wire

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flix-lab/flix/services"
)

// tap is a file that arrives when told to.
type tap struct {
	mu     sync.Mutex
	limit  int64
	err    error
	change chan struct{}
}

func (g *tap) Await(ctx context.Context, off int64) (int64, error) {
	for {
		g.mu.Lock()
		limit, err, change := g.limit, g.err, g.change
		g.mu.Unlock()
		if off < limit || err != nil {
			return limit, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (g *tap) set(limit int64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit, g.err = limit, err
	close(g.change)
	g.change = make(chan struct{})
}

func TestArrivingFile(t *testing.T) {
	const size = 1 << 20
	ways(t, size, func(t *testing.T, r *rig, c *http.Client, base string) {
		g := &tap{change: make(chan struct{}), limit: 1000}
		full, err := os.ReadFile(r.path)
		if err != nil {
			t.Fatal(err)
		}
		f, _ := openBody(t, full, g)
		old := r.swap(f)
		defer func() {
			r.swap(old)
			f.Release()
		}()
		if resp, body := fetch(t, c, "GET", base+"/v", "Range", "bytes=0-999"); resp.StatusCode != 206 || !bytes.Equal(body, r.body[:1000]) {
			t.Errorf("what has arrived: %s", resp.Status)
		}
		if resp, _ := fetch(t, c, "HEAD", base+"/v"); resp.StatusCode != 200 || resp.ContentLength != size {
			t.Errorf("HEAD: %s", resp.Status)
		}
		// Follows what comes.
		resp, err := c.Get(base + "/v")
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 1000)
		if _, err := io.ReadFull(resp.Body, head); err != nil {
			t.Fatal(err)
		}
		g.set(500_000, nil)
		more := make([]byte, 499_000)
		if _, err := io.ReadFull(resp.Body, more); err != nil {
			t.Fatal(err)
		}
		g.set(size, nil)
		rest, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := bytes.Join([][]byte{head, more, rest}, nil); err != nil || !bytes.Equal(got, r.body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		// A byte that does not come is a status of its own, before the head;
		// after it, the end of the connection.
		g.set(1000, services.Errorf(services.Unavailable, "it will not come").WithReason("not_arrived"))
		resp2, body := fetch(t, c, "GET", base+"/v", "Range", "bytes=2000-")
		if resp2.StatusCode != 503 || resp2.Header.Get("Retry-After") == "" || !bytes.Contains(body, []byte("not_arrived")) || resp2.Header.Get("Content-Range") != "" || resp2.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %v %s", resp2.Status, resp2.Header, body)
		}
		g.set(1000, nil)
		resp, err = c.Get(base + "/v")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadFull(resp.Body, head); err != nil {
			t.Fatal(err)
		}
		g.set(1000, services.Errorf(services.Unavailable, "it will not come"))
		if n, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("an answer that broke off looks whole after %d more bytes", n)
		}
	})
}

// An answer of a file that is changed meanwhile breaks off: it is of one state of
// the file, or not whole.
func TestChangedFile(t *testing.T) {
	const size = 4 << 20
	ways(t, size, func(t *testing.T, r *rig, c *http.Client, base string) {
		f, _ := openBody(t, r.body, nil)
		var asked atomic.Int64
		f.Guard(func() bool { return asked.Add(1) < 3 })
		old := r.swap(f)
		defer func() {
			r.swap(old)
			f.Release()
		}()
		resp, err := c.Get(base + "/v")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("an answer of two states of a file looks whole: %d bytes", n)
		}
	})
}
