package oca

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

const (
	// partialDir holds files of several chunks while they are received, by
	// checksum, so that a fill goes on where it stopped after a kill, too.
	partialDir = "partial"
	// maxPartial bounds those that nobody works on; the oldest go.
	maxPartial = 8
)

// chunking is how a file is cut, with the checksum of each part.
type chunking struct {
	bytes uint64
	sums  []sum
}

// chunkingOf reads a file's chunks; none for a file of one. Errors are Invalid:
// chunks that do not cover the file would leave a hole in it.
func chunkingOf(f *pb.File) (chunking, error) {
	if len(f.GetChunkSha256()) == 0 && f.GetChunkBytes() == 0 {
		return chunking{}, nil
	}
	if f.GetChunkBytes() == 0 || (f.GetSize()+f.GetChunkBytes()-1)/f.GetChunkBytes() != uint64(len(f.GetChunkSha256())) {
		return chunking{}, services.Errorf(services.Invalid, "%s: %d chunks of %d bytes do not make %d bytes", f.GetPath(), len(f.GetChunkSha256()), f.GetChunkBytes(), f.GetSize())
	}
	c := chunking{bytes: f.GetChunkBytes()}
	for i, s := range f.GetChunkSha256() {
		if len(s) != len(sum{}) {
			return chunking{}, services.Errorf(services.Invalid, "%s: chunk %d has no SHA-256", f.GetPath(), i)
		}
		c.sums = append(c.sums, sum(s))
	}
	return c, nil
}

// span is where chunk i lies in a file of a size.
func (c chunking) span(i int, size uint64) (from, to uint64) {
	from = uint64(i) * c.bytes
	return from, min(from+c.bytes, size)
}

// openPartial opens the file that a receiver of chunks writes to: what an
// earlier attempt left, or a new one. It returns an empty name if somebody
// works on that. Called with the store's lock held.
func (s *store) openPartial(digest sum) (name string, f *os.File, err error) {
	name = partialDir + "/" + digest.String()
	for _, w := range s.receiving {
		if w.name == name {
			return "", nil, nil
		}
	}
	f, err = s.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the folder under us
		if err = s.root.MkdirAll(partialDir, 0o700); err == nil {
			f, err = s.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		}
	}
	return name, f, err
}

// resume finds the chunks that an earlier attempt left whole.
func (w *receiver) resume() error {
	if len(w.chunks.sums) == 0 {
		return nil
	}
	info, err := w.f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	for i := range w.chunks.sums {
		if _, to := w.chunks.span(i, w.want.size); to > uint64(info.Size()) {
			break
		}
		ok, err := w.check(i)
		if err != nil {
			return err
		}
		if ok {
			if err := w.accept(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// check reads a chunk back and compares its checksum.
func (w *receiver) check(i int) (bool, error) {
	from, to := w.chunks.span(i, w.want.size)
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(w.f, int64(from), int64(to-from))); err != nil {
		return false, w.diskError(err)
	}
	return sum(h.Sum(nil)) == w.chunks.sums[i], nil
}

// accept notes that a chunk is there and right. What is there without a gap from
// the start goes through the digest of the whole, and is shown to readers.
func (w *receiver) accept(i int) error {
	w.whole[i] = true
	for w.offset < w.want.size {
		at := int(w.offset / w.chunks.bytes)
		from, to := w.chunks.span(at, w.want.size)
		if !w.whole[at] || from != w.offset {
			return nil
		}
		if _, err := io.Copy(w.digest, io.NewSectionReader(w.f, int64(from), int64(to-from))); err != nil {
			return w.diskError(err)
		}
		w.offset = to
		w.arrival.grew(w.offset)
	}
	return nil
}

func (w *receiver) diskError(err error) error {
	return &services.Error{Kind: services.Internal, Reason: reasonDisk, Msg: "cannot use what was received of " + w.ref.String(), Err: err}
}

// chunkWriter puts a chunk's bytes in their place and hashes them.
type chunkWriter struct {
	w      *receiver
	index  int
	at, to uint64
	digest hash.Hash
}

// chunk returns a writer of a chunk.
func (w *receiver) chunk(i int) *chunkWriter {
	from, to := w.chunks.span(i, w.want.size)
	return &chunkWriter{w: w, index: i, at: from, to: to, digest: sha256.New()}
}

// Write implements io.Writer; more than the chunk's bytes is an error.
func (c *chunkWriter) Write(b []byte) (int, error) {
	if uint64(len(b)) > c.to-c.at {
		return 0, fmt.Errorf("%w: more bytes came than were asked for", errUseless)
	}
	n, err := 0, c.w.s.fault().write()
	if err == nil {
		n, err = c.w.f.WriteAt(b, int64(c.at))
	}
	c.digest.Write(b[:n])
	c.at += uint64(n)
	if err != nil {
		return n, c.w.diskError(err)
	}
	return n, nil
}

// verify compares the checksum of a chunk that is all there.
func (c *chunkWriter) verify() error {
	if sum(c.digest.Sum(nil)) != c.w.chunks.sums[c.index] {
		return fmt.Errorf("chunk %d: %w", c.index, errChecksum)
	}
	return nil
}

// stream puts the bytes of a file of several chunks in their places as they come
// from one source, in their order. A chunk counts, and is shown to readers, when
// its checksum is right; one that is there already is left as it is.
type stream struct {
	w    *receiver
	at   uint64
	part *chunkWriter // nil at the start of a chunk
}

// Write implements io.Writer; more than the file's bytes is an error, and so is
// a wrong chunk.
func (s *stream) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = s.take(b[n:])
		n += k
	}
	return n, err
}

// take writes what belongs to the chunk at hand.
func (s *stream) take(b []byte) (int, error) {
	w := s.w
	if s.at >= w.want.size {
		return 0, fmt.Errorf("%w: more bytes came than were asked for", errUseless)
	}
	i := int(s.at / w.chunks.bytes)
	_, to := w.chunks.span(i, w.want.size)
	b = b[:min(uint64(len(b)), to-s.at)]
	if w.whole[i] {
		s.at += uint64(len(b))
		return len(b), nil
	}
	if s.part == nil {
		s.part = w.chunk(i)
	}
	n, err := s.part.Write(b)
	s.at += uint64(n)
	if err != nil || s.at < to {
		return n, err
	}
	err = s.part.verify()
	s.part = nil
	if err == nil {
		err = w.accept(i)
	}
	return n, err
}

func (s *stream) position() uint64 { return s.at }

// rewind keeps the chunks that are there.
func (s *stream) rewind() error {
	s.at, s.part = 0, nil
	return nil
}

// keeps says whether what was received is worth keeping for the next attempt:
// at least one chunk of it is whole.
func (w *receiver) keeps() bool {
	return w.partial && slices.Contains(w.whole, true)
}

// trimPartial removes what nobody works on, but the newest. Called with the
// store's lock held, or before anybody else knows the store.
func (s *store) trimPartial() error {
	entries, err := fs.ReadDir(s.root.FS(), partialDir)
	if err != nil || len(entries) <= maxPartial {
		return err
	}
	busy := map[string]bool{}
	for _, w := range s.receiving {
		busy[w.name] = true
	}
	type old struct {
		name string
		info fs.FileInfo
	}
	var idle []old
	for _, e := range entries {
		name := partialDir + "/" + e.Name()
		info, err := e.Info()
		if err != nil || busy[name] {
			continue
		}
		idle = append(idle, old{name, info})
	}
	slices.SortFunc(idle, func(a, b old) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	for i := 0; i < len(idle)-maxPartial; i++ {
		if rerr := s.root.Remove(idle[i].name); rerr != nil {
			err = errors.Join(err, fmt.Errorf("remove a partial file: %w", rerr))
		}
	}
	return err
}
