package oca

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"path"
	"testing"
	"time"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// grown reads what has arrived of a file, from off on.
func grown(t *testing.T, s *store, f *wire.File, r ref, off int64) string {
	t.Helper()
	s.mu.RLock()
	a := s.receiving[r].arrival
	s.mu.RUnlock()
	limit, err := a.Await(t.Context(), off)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, limit-off)
	if _, err := f.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileIsReadableAsFarAsItHasCome(t *testing.T) {
	s := openTest(t, t.TempDir(), 1000)
	s.patience = 10 * time.Millisecond
	r := ref{"tt-a", 1, "v1.mp4"}
	cut := chunking{bytes: 5, sums: []sum{sha256.Sum256([]byte("01234")), sha256.Sum256([]byte("56789"))}}
	w, err := s.receive(r, sha256.Sum256([]byte("0123456789")), 10, cut)
	if err != nil {
		t.Fatal(err)
	}
	source := &stream{w: w}
	f, _, err := s.acquire(r)
	if err != nil || f.Size != 10 {
		t.Fatal(f, err)
	}
	defer f.Release()
	if _, err := w.arrival.Await(t.Context(), 0); services.ReasonOf(err) != "not_arrived" {
		t.Errorf("nothing has come: %v", err)
	}
	_, _ = io.WriteString(source, "0123")
	if _, err := w.arrival.Await(t.Context(), 0); services.ReasonOf(err) != "not_arrived" {
		t.Errorf("nothing that was compared has come: %v", err)
	}
	_, _ = io.WriteString(source, "45")
	if got := grown(t, s, f, r, 2); got != "234" {
		t.Errorf("read %q", got)
	}
	_, _ = io.WriteString(source, "6789")
	// The last byte waits for the verdict.
	if got := grown(t, s, f, r, 0); got != "012345678" {
		t.Errorf("read %q before the checksum is known", got)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.arrival.Await(done, 9); err == nil {
		t.Error("the last byte is read before the checksum is known")
	}
	a := w.arrival
	if err := w.commit(&pb.FillSource{Source: pb.Source_SOURCE_PEER}); err != nil {
		t.Fatal(err)
	}
	if limit, err := a.Await(t.Context(), 9); err != nil || limit != 10 {
		t.Errorf("after commit: %d, %v", limit, err)
	}
	if whole, e, err := s.acquire(r); err != nil || e.size != 10 {
		t.Errorf("stored: %v", err)
	} else {
		whole.Release()
	}
}

// Wrong bytes are shown to nobody; readers that wait for others are cut off, and
// those of the next try see what it brings.
func TestReadersOfWrongBytesAreCutOff(t *testing.T) {
	s := openTest(t, t.TempDir(), 1000)
	s.patience = 10 * time.Millisecond
	r := ref{"tt-a", 1, "v1.mp4"}
	w, err := s.receive(r, sha256.Sum256([]byte("right")), 5, chunking{})
	if err != nil {
		t.Fatal(err)
	}
	old, _, err := s.acquire(r)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Release()
	before := w.arrival
	_, _ = io.WriteString(w, "wrong")
	if _, err := before.Await(t.Context(), 0); services.ReasonOf(err) != "not_arrived" {
		t.Errorf("before the checksum is known: %v", err)
	}
	if err := w.commit(&pb.FillSource{Source: pb.Source_SOURCE_PEER}); !errors.Is(err, errChecksum) {
		t.Fatal(err)
	}
	if err := w.restart(); err != nil {
		t.Fatal(err)
	}
	if _, err := before.Await(t.Context(), 0); services.ReasonOf(err) != "fill_failed" {
		t.Errorf("a reader of the wrong bytes: %v", err)
	}
	if n, _ := old.ReadAt(make([]byte, 5), 0); n != 0 {
		t.Errorf("%d wrong bytes can still be read", n)
	}
	_, _ = io.WriteString(w, "rig")
	now := w.arrival
	if err := w.discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := now.Await(t.Context(), 4); services.ReasonOf(err) != "fill_failed" {
		t.Errorf("a reader of what was given up: %v", err)
	}
	if _, _, err := s.acquire(r); services.KindOf(err) != services.NotFound {
		t.Errorf("after giving up: %v", err)
	}
}

// Damage that is found takes the kept descriptor away from who sends it.
func TestKeptDescriptorsGoWithTheFile(t *testing.T) {
	s := openTest(t, t.TempDir(), 1000)
	r := ref{"tt-a", 1, "v1.mp4"}
	put(t, s, r, "video", pb.Source_SOURCE_CACHE)
	first, e, err := s.acquire(r)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	second, _, err := s.acquire(r)
	if err != nil || second != first {
		t.Fatalf("not the descriptor that is open: %v", err)
	}
	second.Release()
	if _, err := s.quarantine(e.sum); err != nil {
		t.Fatal(err)
	}
	if len(s.handles) != 0 {
		t.Error("the descriptor is kept")
	}
	if _, _, err := s.acquire(r); services.KindOf(err) != services.NotFound {
		t.Errorf("quarantined: %v", err)
	}
	put(t, s, r, "video", pb.Source_SOURCE_CACHE)
	again, e, err := s.acquire(r)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
	if err := s.root.Remove(e.sum.objectPath()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.acquire(r); services.ReasonOf(err) != reasonLost || services.KindOf(err) != services.NotFound {
		t.Errorf("bytes that are gone: %v", err)
	}
	// A folder that is none stands for whatever else keeps a file from being opened.
	folder := path.Dir(e.sum.objectPath())
	if err := errors.Join(s.root.RemoveAll(folder), s.root.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.acquire(r); services.ReasonOf(err) != reasonLost || services.KindOf(err) != services.Unavailable {
		t.Errorf("bytes that cannot be opened: %v", err)
	}
}
