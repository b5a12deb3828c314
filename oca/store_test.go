package oca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

var testNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func openTest(t testing.TB, dir string, capacity uint64) *store {
	t.Helper()
	s, err := openStore(storeConfig{dir: dir, capacity: capacity, now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

func put(t testing.TB, s *store, r ref, body string, k pb.Source) {
	t.Helper()
	w, err := s.receive(r, sha256.Sum256([]byte(body)), uint64(len(body)), chunking{})
	if err != nil {
		t.Fatal(err)
	}
	if w == nil {
		return
	}
	s.filled.add(k, uint64(len(body)))
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	if err := w.commit(&pb.FillSource{Source: k}); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, s *store, r ref) string {
	t.Helper()
	f, _, err := s.open(r)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStoreKeepsFilesOverReopening(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, 1000)
	a, b := ref{"tt-a", 1, "v1.mp4"}, ref{"tt-a", 1, "hls/v1.m3u8"}
	put(t, s, a, "video", pb.Source_SOURCE_CACHE)
	put(t, s, b, "list", pb.Source_SOURCE_PEER)
	epoch := s.epoch
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir, 1000)
	if got := read(t, s, a); got != "video" {
		t.Errorf("%v holds %q", a, got)
	}
	if got := read(t, s, b); got != "list" {
		t.Errorf("%v holds %q", b, got)
	}
	if used, files, filled := s.usage(); used != 9 || files != 2 || filled != (fillBytes{Cache: 5, Peer: 4}) {
		t.Errorf("usage = %d bytes, %d files, %+v", used, files, filled)
	}
	if s.epoch <= epoch {
		t.Errorf("the epoch went from %d to %d, though the clock stood still", epoch, s.epoch)
	}
}

func TestStoreRefusesWrongBytes(t *testing.T) {
	s := openTest(t, t.TempDir(), 1000)
	r := ref{"tt-a", 1, "v1.mp4"}
	w, err := s.receive(r, sha256.Sum256([]byte("right")), 5, chunking{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "wrong")
	if err := w.commit(&pb.FillSource{Source: pb.Source_SOURCE_PEER}); !errors.Is(err, errChecksum) {
		t.Fatalf("commit of wrong bytes: %v", err)
	}
	if _, _, err := s.open(r); services.KindOf(err) != services.NotFound {
		t.Errorf("open after a refused commit: %v", err)
	}
	if err := w.restart(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "right")
	if err := w.commit(&pb.FillSource{Source: pb.Source_SOURCE_PEER}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, r); got != "right" {
		t.Errorf("stored %q", got)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a byte more than the size was taken")
	}
}

func TestStoreHoldsToItsCapacity(t *testing.T) {
	s := openTest(t, t.TempDir(), 10)
	a, b := ref{"tt-a", 1, "a"}, ref{"tt-b", 1, "b"}
	w, err := s.receive(a, sha256.Sum256([]byte("sixsix")), 6, chunking{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.receive(b, sha256.Sum256([]byte("fives")), 5, chunking{}); services.KindOf(err) != services.Exhausted {
		t.Fatalf("more was reserved than there is: %v", err)
	}
	if err := w.discard(); err != nil {
		t.Fatal(err)
	}
	put(t, s, b, "fives", pb.Source_SOURCE_CACHE)
	put(t, s, a, "fives", pb.Source_SOURCE_CACHE) // the same content takes no room
	if used, files, _ := s.usage(); used != 5 || files != 2 {
		t.Errorf("usage = %d bytes, %d files", used, files)
	}
	if _, err := s.remove([]ref{b}, reasonEvicted); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, a); got != "fives" {
		t.Errorf("%v lost its bytes with the other name: %q", a, got)
	}
	if _, err := s.remove([]ref{a}, reasonEvicted); err != nil {
		t.Fatal(err)
	}
	if used, files, _ := s.usage(); used != 0 || files != 0 {
		t.Errorf("usage after all is removed = %d bytes, %d files", used, files)
	}
}

// TestStoreSurvivesAKillAtAnyByte cuts the index at every byte, as a kill in
// the middle of an append would, and damages every byte, as a bad disk would.
// Whatever the index still says must be there, whole; and what is stored next
// must survive another start.
func TestStoreSurvivesAKillAtAnyByte(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, 10000)
	want := map[ref]string{}
	for i := range 3 {
		r := ref{fmt.Sprintf("tt-%d", i), 1, "f"}
		want[r] = fmt.Sprintf("body %d", i)
		put(t, s, r, want[r], pb.Source_SOURCE_CACHE)
	}
	gone := ref{"tt-0", 1, "f"}
	if _, err := s.remove([]ref{gone}, reasonEvicted); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	whole := readIndex(index)
	for cut := range len(index) + 1 {
		st := readIndex(index[:cut])
		for r, e := range st.files {
			if sum(sha256.Sum256([]byte(want[r]))) != e.sum {
				t.Fatalf("cut at %d: %v is %v", cut, r, e)
			}
		}
		// On disk too: every byte of the last line, and samples before.
		if cut > len(index)-20 || cut%61 == 0 {
			reopenDamaged(t, dir, index[:cut], want, -1)
		}
	}
	for at := range len(index) {
		bad := bytes.Clone(index)
		bad[at] ^= 0x20
		if st := readIndex(bad); st.damaged == 0 && !maps.Equal(st.files, whole.files) {
			t.Fatalf("a byte damaged at %d went unseen: %+v", at, st)
		}
		if at%61 == 0 {
			reopenDamaged(t, dir, bad, want, at)
		}
	}
}

func reopenDamaged(t *testing.T, from string, index []byte, want map[ref]string, at int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, indexName), index, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openStore(storeConfig{dir: dir, capacity: 10000, now: testNow})
	if err != nil {
		t.Fatalf("%d bytes of index, damaged at %d: %v", len(index), at, err)
	}
	for r := range s.files {
		if got := read(t, s, r); got != want[r] {
			t.Fatalf("%d bytes of index, damaged at %d: %v holds %q", len(index), at, r, got)
		}
	}
	if at >= 0 && len(s.files) < 1 {
		t.Fatalf("one damaged byte at %d lost every file", at)
	}
	extra := ref{"tt-new", 1, "f"}
	put(t, s, extra, "new", pb.Source_SOURCE_PEER)
	before := maps.Clone(s.files)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir, 10000)
	if !maps.Equal(before, s.files) {
		t.Fatalf("%d bytes of index, damaged at %d: %d files, then %d after another start", len(index), at, len(before), len(s.files))
	}
	_ = s.close()
}

// TestStoreSweepsWhatAKillLeaves makes by hand what a kill between any two
// steps of storing a file leaves.
func TestStoreSweepsWhatAKillLeaves(t *testing.T) {
	kept := ref{"tt-kept", 1, "f"}
	digest := sum(sha256.Sum256([]byte("orphan")))
	for name, leave := range map[string]func(dir string) error{
		"a file being received":    func(dir string) error { return os.WriteFile(dir+"/tmp/7", []byte("half"), 0o600) },
		"bytes without a name":     func(dir string) error { return write(dir+"/"+digest.objectPath(), "orphan") },
		"a new index half written": func(dir string) error { return os.WriteFile(dir+"/index.log.new", []byte("00000000 {"), 0o600) },
		"a strange object":         func(dir string) error { return write(dir+"/objects/zz/not-a-sum", "x") },
		"a folder for an object":   func(dir string) error { return os.MkdirAll(dir+"/"+digest.objectPath(), 0o700) },
		"a short object": func(dir string) error {
			return os.Truncate(dir+"/"+sum(sha256.Sum256([]byte("short"))).objectPath(), 2)
		},
		"a lost object": func(dir string) error {
			return os.Remove(dir + "/" + sum(sha256.Sum256([]byte("short"))).objectPath())
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir, 1000)
			put(t, s, kept, "kept", pb.Source_SOURCE_CACHE)
			put(t, s, ref{"tt-short", 1, "f"}, "short", pb.Source_SOURCE_CACHE)
			if err := errors.Join(s.close(), leave(dir)); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, dir, 1000)
			if got := read(t, s, kept); got != "kept" {
				t.Errorf("%v holds %q", kept, got)
			}
			var total int64
			err := filepath.WalkDir(dir+"/objects", func(p string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				info, err := d.Info()
				total += info.Size()
				return err
			})
			if used, _, _ := s.usage(); err != nil || uint64(total) != used {
				t.Errorf("%d bytes lie in objects, %d are accounted for (%v)", total, used, err)
			}
			if left, _ := os.ReadDir(dir + "/tmp"); len(left) != 0 {
				t.Errorf("tmp holds %v", left)
			}
			for r, e := range s.files {
				if verdict, err := s.inspect(context.Background(), e.sum, true); verdict != "" || err != nil {
					t.Errorf("%v is named and %s (%v)", r, verdict, err)
				}
			}
		})
	}
}

func write(path, body string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(body), 0o600))
}

func TestStoreQuarantine(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir, 1000)
	var changes []change
	s.onChange = func(c change) { changes = append(changes, c) }
	for i := range maxQuarantine + 3 {
		body := fmt.Sprintf("body %d", i)
		r := ref{"tt-a", 1, fmt.Sprint(i)}
		put(t, s, r, body, pb.Source_SOURCE_CACHE)
		put(t, s, ref{"tt-b", 1, fmt.Sprint(i)}, body, pb.Source_SOURCE_CACHE)
		digest := sum(sha256.Sum256([]byte(body)))
		path := dir + "/" + digest.objectPath()
		if verdict, err := s.inspect(t.Context(), digest, true); verdict != "" || err != nil {
			t.Fatalf("a good object is %q (%v)", verdict, err)
		}
		if err := os.WriteFile(path, []byte(strings.ToUpper(body)), 0o600); err != nil {
			t.Fatal(err)
		}
		if verdict, _ := s.inspect(t.Context(), digest, false); verdict != "" {
			t.Errorf("without reading, a damaged object is %q", verdict)
		}
		if verdict, _ := s.inspect(t.Context(), digest, true); verdict != reasonDamaged {
			t.Errorf("a damaged object is %q", verdict)
		}
		gone, err := s.quarantine(digest)
		if err != nil || len(gone) != 2 {
			t.Fatalf("quarantine took %v away (%v), want both names", gone, err)
		}
	}
	if _, files, _ := s.usage(); files != 0 {
		t.Errorf("%d files are left", files)
	}
	kept, _ := os.ReadDir(dir + "/quarantine")
	if len(kept) != maxQuarantine {
		t.Errorf("%d damaged files are kept, want %d", len(kept), maxQuarantine)
	}
	last := changes[len(changes)-1]
	if last.reason != reasonDamaged || len(last.removed) != 2 {
		t.Errorf("the last change was %+v", last)
	}
}

func TestStoreReplacesContentUnderOneName(t *testing.T) {
	s := openTest(t, t.TempDir(), 1000)
	r := ref{"tt-a", 1, "f"}
	put(t, s, r, "old", pb.Source_SOURCE_CACHE)
	put(t, s, r, "newer", pb.Source_SOURCE_CACHE)
	if got := read(t, s, r); got != "newer" {
		t.Errorf("%v holds %q", r, got)
	}
	if used, files, _ := s.usage(); used != 5 || files != 1 {
		t.Errorf("usage = %d bytes, %d files", used, files)
	}
}

func FuzzIndex(f *testing.F) {
	good := appendRecord(nil, record{Op: opEpoch, Epoch: 7})
	good = appendRecord(good, putRecord(ref{"tt-a", 1, "hls/v1.m3u8"}, entry{sum: sha256.Sum256(nil), size: 5, source: "cache"}))
	good = appendRecord(good, fillRecord(fillBytes{Cache: 5}))
	good = appendRecord(good, delRecord(ref{"tt-a", 1, "hls/v1.m3u8"}))
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte("00000000 {}\n\n\n"))
	f.Add(appendRecord(nil, putRecord(ref{"tt-a", 1, "../../etc/passwd"}, entry{})))
	f.Fuzz(func(t *testing.T, log []byte) {
		st := readIndex(log)
		if st.damaged > st.lines {
			t.Fatalf("%d of %d lines are damaged", st.damaged, st.lines)
		}
		var again []byte
		for r, e := range st.files {
			if r.check() != nil {
				t.Fatalf("%v got through", r)
			}
			again = appendRecord(again, putRecord(r, e))
		}
		if got := readIndex(again); !maps.Equal(got.files, st.files) || got.damaged != 0 {
			t.Fatalf("written and read again: %+v, want %+v", got, st)
		}
		// Whatever came before, a whole record that follows is read.
		after := readIndex(append(slices.Concat(log, []byte{'\n'}), good...))
		if after.epoch < 7 || after.filled != (fillBytes{Cache: 5}) {
			t.Fatalf("after it, a good log reads as %+v", after)
		}
	})
}
