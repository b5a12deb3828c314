// Package kvtest is the contract of kv.Store: every adapter passes Run in its
// own tests.
package kvtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// Run checks a store against the contract. open returns a client of a running
// store of a lab with one region; each call may return the same one.
func Run(t *testing.T, open func(t testing.TB) kv.Store) {
	cases := []struct {
		name string
		test func(t *testing.T, s kv.Store)
	}{
		{"get what was put", getPut},
		{"missing item is not found", missing},
		{"put replaces", replaces},
		{"delete", deletes},
		{"partitions and namespaces are apart", apart},
		{"any bytes in keys", oddKeys},
		{"query order, range, reverse and limit", queryRange},
		{"query pages", queryPages},
		{"query pages survive deletion of the last item seen", pageDeleted},
		{"expired items vanish", expires},
		{"a put without TTL cancels an earlier one", ttlCancelled},
		{"put if absent", putIfAbsent},
		{"put if equal", putIfEquals},
		{"put if is exact under contention", putIfContention},
		{"global namespace in one region", global},
		{"wrong requests are invalid", invalid},
		{"ended context is unavailable", cancelled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return c
}

// partition returns a name of its own, so that adapters may share one store.
func partition() string { return "test-" + rand.Text() }

func put(t testing.TB, s kv.Store, p string, items ...kv.Item) {
	t.Helper()
	if err := s.Put(ctx(t), kv.Bookmarks, p, items...); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func wantValue(t testing.TB, s kv.Store, p, sort, want string) {
	t.Helper()
	it, err := s.Get(ctx(t), kv.Bookmarks, p, sort)
	if err != nil || string(it.Value) != want || it.Sort != sort {
		t.Errorf("Get %q = %q %q, %v; want %q", sort, it.Sort, it.Value, err, want)
	}
}

func wantKind(t testing.TB, err error, want services.Kind) {
	t.Helper()
	if err == nil || services.KindOf(err) != want {
		t.Errorf("error is %v, want kind %s", err, want)
	}
}

func wantMissing(t testing.TB, s kv.Store, p, sort string) {
	t.Helper()
	_, err := s.Get(ctx(t), kv.Bookmarks, p, sort)
	wantKind(t, err, services.NotFound)
}

func getPut(t *testing.T, s kv.Store) {
	p, before := partition(), time.Now().Add(-time.Second)
	put(t, s, p, kv.Item{Sort: "a", Value: []byte("1")}, kv.Item{Sort: "b"})
	wantValue(t, s, p, "a", "1")
	wantValue(t, s, p, "b", "")
	it, err := s.Get(ctx(t), kv.Bookmarks, p, "a")
	if err != nil || it.Region == "" || it.Written.Before(before) || it.Written.After(time.Now().Add(time.Second)) {
		t.Errorf("Get = %+v, %v; want the region and time of the write", it, err)
	}
}

func missing(t *testing.T, s kv.Store) {
	wantMissing(t, s, partition(), "a")
	items, next, err := s.Query(ctx(t), kv.Bookmarks, partition(), kv.Range{})
	if err != nil || len(items) != 0 || next != "" {
		t.Errorf("Query of an empty partition = %v, %q, %v", items, next, err)
	}
}

func replaces(t *testing.T, s kv.Store) {
	p := partition()
	for i := range 20 {
		put(t, s, p, kv.Item{Sort: "a", Value: fmt.Append(nil, i)})
		wantValue(t, s, p, "a", fmt.Sprint(i))
	}
}

func deletes(t *testing.T, s kv.Store) {
	p := partition()
	put(t, s, p, kv.Item{Sort: "a"}, kv.Item{Sort: "b"}, kv.Item{Sort: "c"})
	for range 2 {
		if err := s.Delete(ctx(t), kv.Bookmarks, p, "a", "c", "never"); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	}
	wantMissing(t, s, p, "a")
	wantSorts(t, s, p, kv.Range{}, "b")
	put(t, s, p, kv.Item{Sort: "a", Value: []byte("again")})
	wantValue(t, s, p, "a", "again")
}

func apart(t *testing.T, s kv.Store) {
	p := partition()
	put(t, s, p, kv.Item{Sort: "x", Value: []byte("1")})
	put(t, s, p+"2", kv.Item{Sort: "x", Value: []byte("2")})
	if err := s.Put(ctx(t), kv.Rows, p, kv.Item{Sort: "x", Value: []byte("3")}); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, p, "x", "1")
	wantValue(t, s, p+"2", "x", "2")
	wantSorts(t, s, p, kv.Range{}, "x")
}

func oddKeys(t *testing.T, s kv.Store) {
	p := partition() + "\x00\x01/ü"
	sorts := []string{"", "\x00", "\x00\x01", "a\x00", "a\x01", "é", "\U0010ffff"}
	for _, k := range sorts {
		put(t, s, p, kv.Item{Sort: k, Value: []byte(k)})
	}
	for _, k := range sorts {
		wantValue(t, s, p, k, k)
	}
	wantSorts(t, s, p, kv.Range{}, sorts...)
}

func wantSorts(t testing.TB, s kv.Store, p string, r kv.Range, want ...string) {
	t.Helper()
	items, _, err := s.Query(ctx(t), kv.Bookmarks, p, r)
	if got := sorts(items); err != nil || !slices.Equal(got, want) {
		t.Errorf("Query %+v = %q, %v; want %q", r, got, err, want)
	}
}

func sorts(items []kv.Item) []string {
	var out []string
	for _, it := range items {
		out = append(out, it.Sort)
	}
	return out
}

func queryRange(t *testing.T, s kv.Store) {
	p := partition()
	put(t, s, p, kv.Item{Sort: "d"}, kv.Item{Sort: "a"}, kv.Item{Sort: "c"}, kv.Item{Sort: "b"})
	wantSorts(t, s, p, kv.Range{}, "a", "b", "c", "d")
	wantSorts(t, s, p, kv.Range{From: "b"}, "b", "c", "d")
	wantSorts(t, s, p, kv.Range{From: "b", To: "d"}, "b", "c")
	wantSorts(t, s, p, kv.Range{To: "b"}, "a")
	wantSorts(t, s, p, kv.Range{From: "c", To: "b"})
	wantSorts(t, s, p, kv.Range{Limit: 2}, "a", "b")
	wantSorts(t, s, p, kv.Range{Reverse: true}, "d", "c", "b", "a")
	wantSorts(t, s, p, kv.Range{Reverse: true, From: "b", To: "d", Limit: 1}, "c")
}

func queryPages(t *testing.T, s kv.Store) {
	p := partition()
	want := []string{""}
	for i := range 24 {
		want = append(want, fmt.Sprintf("%02d", i))
	}
	for _, k := range want {
		put(t, s, p, kv.Item{Sort: k})
	}
	for _, reverse := range []bool{false, true} {
		var got []string
		r := kv.Range{Limit: 6, Reverse: reverse}
		for {
			items, next, err := s.Query(ctx(t), kv.Bookmarks, p, r)
			if err != nil || len(items) > 6 || len(got) > len(want) {
				t.Fatalf("Query %+v = %d items, %v", r, len(items), err)
			}
			got = append(got, sorts(items)...)
			if r.Page = next; next == "" {
				break
			}
		}
		if reverse {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("reverse %v: pages hold %q, want %q", reverse, got, want)
		}
	}
}

func pageDeleted(t *testing.T, s kv.Store) {
	p := partition()
	put(t, s, p, kv.Item{Sort: "a"}, kv.Item{Sort: "b"}, kv.Item{Sort: "c"})
	_, next, err := s.Query(ctx(t), kv.Bookmarks, p, kv.Range{Limit: 2})
	if err != nil || next == "" {
		t.Fatalf("first page: %q, %v", next, err)
	}
	if err := s.Delete(ctx(t), kv.Bookmarks, p, "b"); err != nil {
		t.Fatal(err)
	}
	wantSorts(t, s, p, kv.Range{Limit: 2, Page: next}, "c")
}

func expires(t *testing.T, s kv.Store) {
	p := partition()
	put(t, s, p, kv.Item{Sort: "short", TTL: 30 * time.Millisecond}, kv.Item{Sort: "long", TTL: time.Hour}, kv.Item{Sort: "ever"})
	Eventually(t, "the short one is gone", func() bool {
		_, err := s.Get(ctx(t), kv.Bookmarks, p, "short")
		return services.KindOf(err) == services.NotFound
	})
	wantSorts(t, s, p, kv.Range{}, "ever", "long")
	if err := s.PutIf(ctx(t), kv.Bookmarks, p, kv.Condition{Sort: "short", Absent: true}, kv.Item{Sort: "short"}); err != nil {
		t.Errorf("PutIf absent after the expiry: %v", err)
	}
}

func ttlCancelled(t *testing.T, s kv.Store) {
	p := partition()
	put(t, s, p, kv.Item{Sort: "a", TTL: 50 * time.Millisecond}, kv.Item{Sort: "clock", TTL: 60 * time.Millisecond})
	put(t, s, p, kv.Item{Sort: "a", Value: []byte("kept")})
	Eventually(t, "the later one of both times has passed", func() bool {
		_, err := s.Get(ctx(t), kv.Bookmarks, p, "clock")
		return err != nil
	})
	wantValue(t, s, p, "a", "kept")
}

func putIfAbsent(t *testing.T, s kv.Store) {
	p, cond := partition(), kv.Condition{Sort: "a", Absent: true}
	if err := s.PutIf(ctx(t), kv.Bookmarks, p, cond, kv.Item{Sort: "a", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.PutIf(ctx(t), kv.Bookmarks, p, cond, kv.Item{Sort: "a", Value: []byte("2")}, kv.Item{Sort: "b"}), services.Conflict)
	wantValue(t, s, p, "a", "1")
	wantMissing(t, s, p, "b")
	if err := s.Delete(ctx(t), kv.Bookmarks, p, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.PutIf(ctx(t), kv.Bookmarks, p, cond, kv.Item{Sort: "a", Value: []byte("3")}); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
}

func putIfEquals(t *testing.T, s kv.Store) {
	p := partition()
	cond := kv.Condition{Sort: "a", Equals: []byte("1")}
	wantKind(t, s.PutIf(ctx(t), kv.Bookmarks, p, cond, kv.Item{Sort: "a"}), services.Conflict)
	put(t, s, p, kv.Item{Sort: "a", Value: []byte("1")})
	if err := s.PutIf(ctx(t), kv.Bookmarks, p, cond, kv.Item{Sort: "a", Value: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.PutIf(ctx(t), kv.Bookmarks, p, cond, kv.Item{Sort: "a", Value: []byte("3")}), services.Conflict)
	wantValue(t, s, p, "a", "2")
}

func putIfContention(t *testing.T, s kv.Store) {
	const writers, rounds = 8, 10
	p := partition()
	put(t, s, p, kv.Item{Sort: "n", Value: []byte("0")})
	c := ctx(t)
	var applied atomic.Int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				it, err := s.Get(c, kv.Bookmarks, p, "n")
				if err != nil {
					t.Errorf("Get: %v", err)
					return
				}
				var n int
				if _, err := fmt.Sscan(string(it.Value), &n); err != nil {
					t.Errorf("value %q: %v", it.Value, err)
				}
				err = s.PutIf(c, kv.Bookmarks, p, kv.Condition{Sort: "n", Equals: it.Value}, kv.Item{Sort: "n", Value: fmt.Append(nil, n+1)})
				switch {
				case err == nil:
					applied.Add(1)
				case services.KindOf(err) != services.Conflict:
					t.Errorf("PutIf: %v", err)
				}
			}
		})
	}
	wg.Wait()
	wantValue(t, s, p, "n", fmt.Sprint(applied.Load()))
}

func global(t *testing.T, s kv.Store) {
	p := partition()
	if err := s.Put(ctx(t), kv.Assets, p, kv.Item{Sort: "a", Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	it, err := s.Get(ctx(t), kv.Assets, p, "a")
	if err != nil || !reflect.DeepEqual(it.Value, []byte("1")) {
		t.Errorf("Get = %+v, %v", it, err)
	}
}

func invalid(t *testing.T, s kv.Store) {
	_, err := s.Get(ctx(t), kv.Bookmarks, "", "a")
	wantKind(t, err, services.Invalid)
	_, err = s.Get(ctx(t), kv.Bookmarks, "p\xff", "a")
	wantKind(t, err, services.Invalid)
	wantKind(t, s.Put(ctx(t), kv.Namespace{}, partition(), kv.Item{Sort: "a"}), services.Invalid)
	wantKind(t, s.Put(ctx(t), kv.Bookmarks, partition(), kv.Item{Sort: "a", TTL: -1}), services.Invalid)
	_, _, err = s.Query(ctx(t), kv.Bookmarks, partition(), kv.Range{Page: "not a token"})
	wantKind(t, err, services.Invalid)
}

func cancelled(t *testing.T, s kv.Store) {
	c, cancel := context.WithCancel(ctx(t))
	cancel()
	_, err := s.Get(c, kv.Bookmarks, partition(), "a")
	wantKind(t, err, services.Unavailable)
	wantKind(t, s.Put(c, kv.Bookmarks, partition(), kv.Item{Sort: "a"}), services.Unavailable)
}

// patience bounds what is waited for: only a hang takes as long.
const patience = time.Minute

// Eventually polls until ok, and fails the test when that takes a minute.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}
