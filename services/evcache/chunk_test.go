package evcache

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b) // never fails
	return b
}

// The figures are those of the original's EVCacheClient.createChunks for a key
// of 10 letters: 1180 − 10 − 74 = 1096 bytes in a piece.
func TestChunksAreCutAsTheOriginalCutsThem(t *testing.T) {
	key := []byte("flix:title")
	for n, want := range map[int]string{1: "2:1096:1:2:", 1096: "2:1096:1096:2:", 1097: "3:1096:1:2:", 5000: "6:1096:616:2:"} {
		v := raw{value: noise(n), flags: flagCompressed}
		i := chunkedAs(key, v, DefaultChunkSize)
		if !strings.HasPrefix(i.String(), want) {
			t.Errorf("%d bytes: %s, want %s…", n, i, want)
		}
		back, err := parseChunkInfo([]byte(i.String()))
		if err != nil || back != i {
			t.Errorf("%s reads as %s (%v)", i, back, err)
		}
		a := newAssembly(i)
		for p := i.chunks - 1; p > 0; p-- {
			piece := i.piece(v.value, p)
			if len(piece) != i.size {
				t.Errorf("piece %d has %d bytes", p, len(piece))
			}
			if err := a.put(p, piece); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := a.raw(); err != nil || !bytes.Equal(got.value, v.value) || got.flags != v.flags {
			t.Errorf("%d bytes come back as %d (%v)", n, len(got.value), err)
		}
	}
}

func TestChunkInfoIsBounded(t *testing.T) {
	for _, s := range []string{
		"", "2", "2:1:1:0", "2:1:1:0:0:0", "1:1:1:0:0", "2:0:0:0:0", "2:1:2:0:0", "2:1:1:x:0", "99999999:1048576:1:0:0", "-2:1:1:0:0",
		"2:1:1:0:-1", "2:1:1:0:4294967296", "2:1:1:2147483648:0", "9223372036854775807:2:1:0:0", strings.Repeat("1", 90),
	} {
		if i, err := parseChunkInfo([]byte(s)); err == nil {
			t.Errorf("%.40q is %v", s, i)
		}
	}
}

func TestChunkKeys(t *testing.T) {
	for n, want := range map[int]string{0: "k_00", 1: "k_01", 10: "k_10", 123: "k_123"} {
		k := appendChunkKey(nil, []byte("k"), n)
		base, back, ok := chunkOf(k)
		if string(k) != want || !ok || string(base) != "k" || back != n {
			t.Errorf("%s, %s %d %v; want %s", k, base, back, ok, want)
		}
	}
	for _, k := range []string{"k", "k_", "k_1", "_01", "k_0x", "k_012", "k_1234567"} {
		if base, n, ok := chunkOf([]byte(k)); ok {
			t.Errorf("%s is piece %d of %s", k, n, base)
		}
	}
}

func FuzzChunkInfo(f *testing.F) {
	f.Add([]byte("3:1096:1:2048:12345"), []byte("payload"))
	f.Add([]byte("2:7:7:0:0"), []byte("payload"))
	f.Add([]byte("20000:1100:0:-1:4294967295"), []byte{})
	f.Fuzz(func(t *testing.T, info, piece []byte) {
		i, err := parseChunkInfo(info)
		if err != nil {
			return
		}
		if n := i.length(); n < 0 || n > maxChunked+maxItem {
			t.Fatalf("%q makes a value of %d bytes", info, n)
		}
		back, err := parseChunkInfo([]byte(i.String()))
		if err != nil || back != i {
			t.Fatalf("%v reads as %v (%v)", i, back, err)
		}
		if i.length() > 1<<20 {
			return
		}
		a := newAssembly(i)
		for n := range min(i.chunks, 100) + 1 {
			_ = a.put(n, piece) // a wrong one is refused
		}
		if v, err := a.raw(); err == nil && len(v.value) != i.length() {
			t.Errorf("%d bytes of %d", len(v.value), i.length())
		}
	})
}

// newCutting is a client that cuts everything over a piece's size.
func newCutting(t testing.TB, nodes ...Node) *Client {
	return newClient(t, Config{Zone: "a", Prefix: "app", Policy: All, ChunkSize: DefaultChunkSize, CompressOver: -1}, nodes...)
}

func TestChunkedValues(t *testing.T) {
	servers, nodes := zones(t, 2)
	ctx := t.Context()
	c := newCutting(t, nodes...)
	plain := newClient(t, Config{Zone: "a", Prefix: "app", Policy: All, CompressOver: -1}, nodes...)
	big, small := noise(100_000), []byte("small")
	if err := c.Set(ctx, "k", big, time.Hour); err != nil {
		t.Fatal(err)
	}
	it, err := c.GetItem(ctx, "k")
	if err != nil || !bytes.Equal(it.Value, big) || it.Chunks != 92 { // 91 pieces of 1101 bytes, and their description
		t.Fatalf("%d bytes in %d pieces (%v)", len(it.Value), it.Chunks, err)
	}
	if _, err := plain.Get(ctx, "k"); !errors.Is(err, ErrMiss) {
		t.Errorf("a client that cuts nothing reads pieces: %v", err)
	}
	if m, err := c.GetMany(ctx, []string{"k", "none"}); err != nil || !bytes.Equal(m["k"], big) || len(m) != 1 {
		t.Errorf("GetMany gives %d items (%v)", len(m), err)
	}
	// What is not cut hides what was.
	if err := c.Set(ctx, "k", small, time.Hour); err != nil {
		t.Fatal(err)
	}
	want(t, c, "k", "small")
	servers[0].server.cache.delete([]byte("app:k"), 0)
	servers[1].server.cache.delete([]byte("app:k"), 0)
	if _, err := c.Get(ctx, "k"); !errors.Is(err, ErrMiss) {
		t.Errorf("pieces of an old value show: %v", err)
	}
	// The longest value, and one more.
	longest := noise(MaxChunkedValue)
	if err := c.Set(ctx, "long", longest, 0); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(ctx, "long"); err != nil || !bytes.Equal(v, longest) {
		t.Errorf("%d bytes (%v)", len(v), err)
	}
	if err := c.Set(ctx, "long", append(longest, 0), 0); err == nil {
		t.Error("a value over the bound was taken")
	}
	if err := c.Delete(ctx, "long"); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		if _, items, _ := s.server.cache.figures(); items > 100 {
			t.Errorf("%d items are left: the pieces were not deleted", items)
		}
	}
}

// A reader that meets pieces of two values, or too few, misses.
func TestTornChunksAreAMiss(t *testing.T) {
	servers, nodes := zones(t, 1)
	c := newCutting(t, nodes...)
	cache := servers[0].server.cache
	for name, tear := range map[string]func(){
		"one of another value": func() { cache.store(entry{key: []byte("app:k_02"), value: noise(1099)}) },
		"one too short":        func() { cache.store(entry{key: []byte("app:k_02"), value: []byte("x")}) },
		"one gone":             func() { cache.delete([]byte("app:k_02"), 0) },
		"no description":       func() { cache.delete([]byte("app:k_00"), 0) },
		"a wrong description":  func() { cache.store(entry{key: []byte("app:k_00"), value: []byte("99:1:1:0:0")}) },
		"no description at all": func() {
			cache.store(entry{key: []byte("app:k_00"), value: []byte("what")})
		},
	} {
		if err := c.Set(t.Context(), "k", noise(5000), 0); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(t.Context(), "k"); err != nil || len(v) != 5000 {
			t.Fatalf("%d bytes (%v)", len(v), err)
		}
		tear()
		if v, err := c.Get(t.Context(), "k"); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: %d bytes (%v)", name, len(v), err)
		}
	}
}

func TestTouchAndDeleteReachThePieces(t *testing.T) {
	now := newHandClock()
	n := newNodeAt(t, "127.0.0.1:0", 0, now.now)
	c := newCutting(t, Node{Addr: n.addr, Zone: "a"})
	ctx := t.Context()
	if err := c.Set(ctx, "k", noise(5000), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := c.Touch(ctx, "k", time.Hour); err != nil {
		t.Fatal(err)
	}
	now.pass(30 * time.Minute)
	if v, err := c.GetAndTouch(ctx, "k", 2*time.Hour); err != nil || len(v) != 5000 {
		t.Fatalf("%d bytes (%v)", len(v), err)
	}
	now.pass(90 * time.Minute)
	if v, err := c.Get(ctx, "k"); err != nil || len(v) != 5000 {
		t.Fatalf("%d bytes (%v)", len(v), err)
	}
	if err := c.Delete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if _, items, _ := n.server.cache.figures(); items != 0 {
		t.Errorf("%d items are left", items)
	}
}
