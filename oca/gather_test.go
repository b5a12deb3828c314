package oca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/media"
)

// chunked is a file of several chunks.
type chunked struct {
	name ref
	body []byte
	file *pb.File
}

func newChunked(t testing.TB, size int) chunked {
	t.Helper()
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i*31 ^ i>>9)
	}
	d, err := media.NewDigest(bytes.NewReader(body), uint64(size))
	if err != nil {
		t.Fatal(err)
	}
	return chunked{ref{"tt-a", 1, "v1.mp4"}, body, &pb.File{Path: "v1.mp4", Size: d.Size, Sha256: d.SHA256, ChunkBytes: d.ChunkBytes, ChunkSha256: d.Chunks}}
}

// peers answers as other appliances would and counts who was asked.
type peers struct {
	mu    sync.Mutex
	asked map[string]int
}

func (p *peers) source(t testing.TB, id string, h http.HandlerFunc) *pb.FillSource {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked[id]++
		p.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return &pb.FillSource{Source: pb.Source_SOURCE_PEER, Appliance: id, Url: srv.URL + "/file"}
}

func (c chunked) order(sources ...*pb.FillSource) *pb.FillOrder {
	return &pb.FillOrder{TitleId: c.name.title, Version: c.name.version, File: c.file, Sources: sources}
}

// blamed lists the appliances that were reported, by the end of their URL.
func blamed(s *Server, sources ...*pb.FillSource) (ids []string, held bool) {
	queue, _ := s.outbox.take()
	for _, m := range queue {
		held = held || m.GetHeld() != nil
		for _, src := range sources {
			if m.GetFillFailed().GetUrl() == src.GetUrl() && src.GetUrl() != "" {
				ids = append(ids, src.GetAppliance())
			}
		}
	}
	slices.Sort(ids)
	return ids, held
}

func TestGather(t *testing.T) {
	c := newChunked(t, 8*256<<10)
	wrong := bytes.Clone(c.body)
	for i := range c.file.ChunkSha256 { // a bit of every chunk
		wrong[i*int(c.file.ChunkBytes)+3] ^= 1
	}
	dying := func(after int) http.HandlerFunc {
		var asked atomic.Int32
		return func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) == 1 {
				broken(c.body, after)(w, r)
			}
			panic(http.ErrAbortHandler)
		}
	}
	for _, x := range []struct {
		name   string
		others []http.HandlerFunc // beside a good one, which comes last
		blamed []string
	}{
		{"all well", []http.HandlerFunc{whole(c.body), whole(c.body)}, nil},
		{"one gives wrong bytes", []http.HandlerFunc{whole(wrong)}, []string{"peer-0"}},
		{"one is cut short", []http.HandlerFunc{whole(c.body[:300_000])}, []string{"peer-0"}},
		{"one lacks the file", []http.HandlerFunc{status(404)}, []string{"peer-0"}},
		{"one dies within a chunk", []http.HandlerFunc{dying(100_000)}, []string{"peer-0"}},
		{"all but one are bad", []http.HandlerFunc{status(404), whole(wrong), status(403)}, []string{"peer-0", "peer-1", "peer-2"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, func(d *Deps) { d.Appliance.Capacity = 8 << 20 })
			s.outbox.start(&pb.Hello{})
			p := &peers{asked: map[string]int{}}
			var sources []*pb.FillSource
			for i, h := range x.others {
				sources = append(sources, p.source(t, "peer-"+string(rune('0'+i)), h))
			}
			sources = append(sources, p.source(t, "good", whole(c.body)))
			s.filler.fill(t.Context(), c.order(sources...))
			got, held := blamed(s, sources...)
			// A peer that was never asked for a chunk, because others were
			// faster, cannot be found bad.
			asked := slices.DeleteFunc(slices.Clone(x.blamed), func(id string) bool { return p.asked[id] == 0 })
			if !held || !slices.Equal(got, asked) {
				t.Fatalf("held %v, blamed %v, want %v (asked %v)", held, got, asked, p.asked)
			}
			if read(t, s.store, c.name) != string(c.body) {
				t.Error("wrong bytes are stored")
			}
			if s.store.reserved != 0 {
				t.Errorf("%d bytes stay reserved", s.store.reserved)
			}
		})
	}
}

func TestGatherGoesOnWhereItStopped(t *testing.T) {
	c := newChunked(t, 8*256<<10)
	dir := t.TempDir()
	s := newTestServer(t, func(d *Deps) { d.Appliance.Capacity, d.Dir = 8<<20, dir })
	w, err := s.store.receive(c.name, sum(c.file.Sha256), c.file.Size, mustChunks(t, c.file))
	if err != nil {
		t.Fatal(err)
	}
	// Chunks 0, 1 and 5 came, and a part of 6; then the process was killed: its
	// file is still there when the store is opened again.
	for _, i := range []int{0, 1, 5, 6} {
		from, to := w.chunks.span(i, w.want.size)
		if i == 6 {
			to -= 1000
		}
		if _, err := w.f.WriteAt(c.body[from:to], int64(from)); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadFile(dir + "/" + w.name)
	if err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if err := os.Mkdir(again+"/"+partialDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(again+"/"+w.name, left, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.discard(); err != nil {
		t.Fatal(err)
	}
	s = newTestServer(t, func(d *Deps) { d.Appliance.Capacity, d.Dir = 8<<20, again })
	s.outbox.start(&pb.Hello{})
	p := &peers{asked: map[string]int{}}
	s.filler.fill(t.Context(), c.order(p.source(t, "a", whole(c.body)), p.source(t, "b", whole(c.body))))
	if n := p.asked["a"] + p.asked["b"]; n != 5 {
		t.Errorf("%d chunks were fetched, want the 5 that were not whole", n)
	}
	if got := s.store.filled.load().Peer; got != 5*c.file.ChunkBytes {
		t.Errorf("%d bytes came, want %d", got, 5*c.file.ChunkBytes)
	}
	if read(t, s.store, c.name) != string(c.body) {
		t.Error("wrong bytes are stored")
	}
}

func TestGatherOfAFileWhoseChunksAreRightAndWholeIsNot(t *testing.T) {
	c := newChunked(t, 3*256<<10)
	other := sha256.Sum256([]byte("something else"))
	c.file.Sha256 = other[:]
	s := newTestServer(t, func(d *Deps) { d.Appliance.Capacity = 8 << 20 })
	s.outbox.start(&pb.Hello{})
	p := &peers{asked: map[string]int{}}
	a, b := p.source(t, "a", whole(c.body)), p.source(t, "b", whole(c.body))
	s.filler.fill(t.Context(), c.order(a, b))
	if got, held := blamed(s, a, b); held || len(got) != 0 {
		t.Errorf("held %v, blamed %v: nothing may be stored, and no source is to blame", held, got)
	}
	if n := p.asked["a"] + p.asked["b"]; n != len(c.file.ChunkSha256) {
		t.Errorf("%d chunks were fetched, want each of %d once: the next time brings the same", n, len(c.file.ChunkSha256))
	}
}

func TestPartialFilesAreBounded(t *testing.T) {
	s := newTestServer(t, func(d *Deps) { d.Appliance.Capacity = 64 << 20 })
	for i := range 2 * maxPartial {
		c := newChunked(t, 2*256<<10+i)
		w, err := s.store.receive(c.name, sum(c.file.Sha256), c.file.Size, mustChunks(t, c.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.f.WriteAt(c.body[:c.file.ChunkBytes], 0); err != nil {
			t.Fatal(err)
		}
		if err := w.accept(0); err != nil {
			t.Fatal(err)
		}
		if err := w.discard(); err != nil {
			t.Fatal(err)
		}
	}
	d, err := s.store.root.Open(partialDir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil || len(names) != maxPartial {
		t.Errorf("%d partial files are kept (%v), want %d", len(names), err, maxPartial)
	}
}

func TestOrderWithAHoleIsRefused(t *testing.T) {
	c := newChunked(t, 3*256<<10)
	for name, change := range map[string]func(f *pb.File){
		"a chunk is missing":     func(f *pb.File) { f.ChunkSha256 = f.ChunkSha256[1:] },
		"a checksum is short":    func(f *pb.File) { f.ChunkSha256[1] = f.ChunkSha256[1][:31] },
		"no size of the chunks":  func(f *pb.File) { f.ChunkBytes = 0 },
		"chunks without any sum": func(f *pb.File) { f.ChunkSha256 = nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := &pb.File{Path: c.file.Path, Size: c.file.Size, Sha256: c.file.Sha256, ChunkBytes: c.file.ChunkBytes, ChunkSha256: slices.Clone(c.file.ChunkSha256)}
			change(f)
			if _, err := chunkingOf(f); services.KindOf(err) != services.Invalid || !strings.Contains(err.Error(), "v1.mp4") {
				t.Errorf("%v, want Invalid and the file's name", err)
			}
		})
	}
}

func TestGatherEndsWithItsContext(t *testing.T) {
	c := newChunked(t, 4*256<<10)
	s := newTestServer(t, func(d *Deps) { d.Appliance.Capacity = 8 << 20 })
	s.outbox.start(&pb.Hello{})
	ctx, cancel := context.WithCancel(t.Context())
	p := &peers{asked: map[string]int{}}
	hang := func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	a, b := p.source(t, "a", hang), p.source(t, "b", hang)
	s.filler.fill(ctx, c.order(a, b))
	if got, held := blamed(s, a, b); held || len(got) != 0 {
		t.Errorf("held %v, blamed %v after the end", held, got)
	}
}

func mustChunks(t testing.TB, f *pb.File) chunking {
	t.Helper()
	c, err := chunkingOf(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGatherOnAFullDiskKeepsNothing(t *testing.T) {
	c := newChunked(t, 8*256<<10)
	s := newTestServer(t, func(d *Deps) {
		d.Appliance.Capacity, d.Disk = 8<<20, func() DiskFault { return DiskFault{Full: true} }
	})
	s.outbox.start(&pb.Hello{})
	p := &peers{asked: map[string]int{}}
	a, b := p.source(t, "a", whole(c.body)), p.source(t, "b", whole(c.body))
	s.filler.fill(t.Context(), c.order(a, b))
	if got, held := blamed(s, a, b); held || len(got) != 0 {
		t.Errorf("held %v, blamed %v: the own disk is to blame", held, got)
	}
	if full, why := s.health.noRoom(), s.health.reason(); !strings.HasPrefix(full, "disk: ") || why != "" {
		t.Errorf("the appliance says it is full: %q, and unwell: %q", full, why)
	}
	d, err := s.store.root.Open(partialDir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if names, _ := d.Readdirnames(-1); len(names) != 0 || s.store.reserved != 0 {
		t.Errorf("%v are kept, %d bytes reserved", names, s.store.reserved)
	}
}

// A single source is read in one go, and its bytes are shown chunk by chunk, as
// far as they are right: one that sends a wrong byte, or dies within a chunk, is
// left, and what it gave before is kept.
func TestASingleSourceShowsNoWrongByte(t *testing.T) {
	c := newChunked(t, 8*256<<10)
	at := 5*int(c.file.ChunkBytes) + 1000
	wrong := bytes.Clone(c.body)
	wrong[at] ^= 1
	for _, x := range []struct {
		name  string
		first http.HandlerFunc
	}{
		{"a wrong byte", whole(wrong)},
		{"it dies within a chunk", broken(c.body, at)},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, func(d *Deps) { d.Appliance.Capacity = 8 << 20 })
			s.outbox.start(&pb.Hello{})
			p := &peers{asked: map[string]int{}}
			var ranges []string
			shown := int64(-1)
			first := p.source(t, "first", func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "" {
					x.first(w, r)
				}
				panic(http.ErrAbortHandler) // dead from then on
			})
			second := p.source(t, "second", func(w http.ResponseWriter, r *http.Request) {
				ranges = append(ranges, r.Header.Get("Range"))
				s.store.mu.RLock()
				a := s.store.receiving[c.name].arrival
				s.store.mu.RUnlock()
				a.mu.Lock()
				shown = a.offset
				a.mu.Unlock()
				whole(c.body)(w, r)
			})
			second.Source = pb.Source_SOURCE_TIER // after the first, not beside it
			s.filler.fill(t.Context(), c.order(first, second))
			if got, held := blamed(s, first, second); !held || !slices.Equal(got, []string{"first"}) {
				t.Errorf("held %v, blamed %v", held, got)
			}
			if want := int64(5 * c.file.ChunkBytes); shown != want || !slices.Equal(ranges, []string{"bytes=" + strconv.FormatInt(want, 10) + "-"}) {
				t.Errorf("%d bytes are shown, then %v is asked for, want %d", shown, ranges, want)
			}
			if read(t, s.store, c.name) != string(c.body) {
				t.Error("wrong bytes are stored")
			}
		})
	}
}

// A source that knows no ranges starts from the front; the chunks that are there
// are left as they are.
func TestASourceWithoutRangesDisturbsNoChunk(t *testing.T) {
	c := newChunked(t, 4*256<<10)
	s := newTestServer(t, func(d *Deps) { d.Appliance.Capacity = 8 << 20 })
	s.outbox.start(&pb.Hello{})
	other := bytes.Clone(c.body)
	clear(other[:2*c.file.ChunkBytes]) // wrong, and not wanted
	p := &peers{asked: map[string]int{}}
	first := p.source(t, "first", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			broken(c.body, int(2*c.file.ChunkBytes))(w, r)
		}
		_, _ = w.Write(other)
	})
	s.filler.fill(t.Context(), c.order(first))
	if got, held := blamed(s, first); !held || len(got) != 0 {
		t.Errorf("held %v, blamed %v", held, got)
	}
	if read(t, s.store, c.name) != string(c.body) {
		t.Error("wrong bytes are stored")
	}
}
