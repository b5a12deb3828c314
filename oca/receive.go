package oca

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// Reasons why a file is removed.
const (
	reasonDamaged  = "damaged"
	reasonMissing  = "missing"
	reasonEvicted  = "evicted"
	reasonReplaced = "replaced"
)

// errChecksum says that all bytes arrived and are not the published ones.
var errChecksum = errors.New("checksum: the bytes are not those that were published")

func parseSum(text string) (sum, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(sum{}) {
		return sum{}, false
	}
	return sum(b), true
}

// receiver takes the bytes of one file, from one source after another. It
// hashes them as they come. Not safe for concurrent use.
type receiver struct {
	s      *store
	ref    ref
	want   entry
	name   string
	f      *os.File
	digest hash.Hash
	offset uint64 // what is there without a gap; of a file of chunks, and is right
	done   bool
	// chunks are how the file is cut, if it is, and whole says which are there.
	// A partial file is kept when the attempt fails.
	chunks  chunking
	whole   []bool
	partial bool
	// view and arrival are what readers follow it by.
	view    *wire.File
	arrival *arrival
}

// receive starts to store a file and reserves room for it. One that may be cut
// into chunks goes on from those that an attempt before has left. It returns nil and
// no error when the content is stored already under another name, which it then
// gives this one, too. Errors: Exhausted if there is no room.
func (s *store) receive(r ref, digest sum, size uint64, chunks chunking) (*receiver, error) {
	w, err := s.begin(r, digest, size, chunks)
	if w == nil {
		return nil, err
	}
	if err := w.resume(); err != nil {
		return nil, errors.Join(err, w.discard())
	}
	return w, nil
}

func (s *store) begin(r ref, digest sum, size uint64, chunks chunking) (*receiver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[digest]; o != nil && o.size == size {
		return nil, s.nameLocked(r, entry{sum: digest, size: size, source: "local"}, pb.Source_SOURCE_UNSPECIFIED)
	}
	if size > s.capacity-min(s.capacity, s.used+s.reserved) {
		return nil, services.Errorf(services.Exhausted, "%s needs %d bytes, %d of %d are used and %d reserved", r, size, s.used, s.capacity, s.reserved).WithReason("no_space")
	}
	var (
		name string
		f    *os.File
		err  error
	)
	if len(chunks.sums) > 0 {
		name, f, err = s.openPartial(digest)
	}
	partial := name != ""
	if !partial && err == nil {
		s.temps++
		name = fmt.Sprintf("%s/%d", tempDir, s.temps)
		f, err = s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("receive %s: %w", r, err)
	}
	w := &receiver{
		s: s, ref: r, want: entry{sum: digest, size: size}, name: name, f: f, digest: sha256.New(),
		chunks: chunks, whole: make([]bool, len(chunks.sums)), partial: partial,
	}
	if err := w.show(); err != nil {
		f.Close()
		return nil, errors.Join(fmt.Errorf("receive %s: %w", r, err), s.root.Remove(name))
	}
	s.reserved += size
	s.receiving[r] = w
	return w, nil
}

// Write implements io.Writer for a file of one chunk; more than its size is an
// error. None of it is shown to readers before its checksum is known to be right.
func (w *receiver) Write(b []byte) (int, error) {
	if uint64(len(b)) > w.want.size-w.offset {
		return 0, services.Errorf(services.Invalid, "%s: more than %d bytes came", w.ref, w.want.size)
	}
	n, err := 0, w.s.fault().write()
	if err == nil {
		n, err = w.f.WriteAt(b, int64(w.offset))
	}
	w.digest.Write(b[:n])
	w.offset += uint64(n)
	if err != nil {
		return n, w.diskError(err)
	}
	return n, nil
}

// reasonDisk marks errors of the appliance's own disk.
const reasonDisk = "disk"

// restart throws away what came.
func (w *receiver) restart() error {
	w.s.mu.Lock()
	w.arrival.fail()
	w.hide()
	err := w.show()
	if err == nil {
		w.s.receiving[w.ref] = w
	}
	w.s.mu.Unlock()
	if err != nil {
		return err
	}
	w.digest.Reset()
	w.offset = 0
	clear(w.whole)
	return w.f.Truncate(0)
}

func (w *receiver) position() uint64 { return w.offset }

// rewind starts anew.
func (w *receiver) rewind() error {
	if err := w.restart(); err != nil {
		return &services.Error{Kind: services.Internal, Reason: reasonDisk, Msg: "cannot start anew", Err: err}
	}
	return nil
}

// complete says whether every byte has come.
func (w *receiver) complete() bool { return w.offset == w.want.size }

// commit names the file if its bytes are right; errChecksum if not, and then
// the receiver can restart.
func (w *receiver) commit(src *pb.FillSource) error {
	if !w.complete() || sum(w.digest.Sum(nil)) != w.want.sum {
		return errChecksum
	}
	if err := w.f.Truncate(int64(w.want.size)); err != nil { // an attempt before may have written more
		return err
	}
	if w.s.fsync {
		if err := w.f.Sync(); err != nil {
			return err
		}
	}
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	path := w.want.sum.objectPath()
	err := s.root.Rename(w.name, path)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the folder under us
		if err = s.root.MkdirAll(objectsDir, 0o700); err == nil {
			err = s.root.Rename(w.name, path)
		}
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", w.ref, err)
	}
	s.reserved -= w.want.size
	w.done = true
	w.arrival.finish()
	w.hide()
	return errors.Join(w.f.Close(), s.nameLocked(w.ref, entry{sum: w.want.sum, size: w.want.size, source: sourceName(src.GetSource()), from: sourceFrom(src)}, src.GetSource()))
}

// nameLocked gives content a name, and an old content of that name up. It
// tells of the file even if that changes nothing: an order wants its answer.
func (s *store) nameLocked(r ref, e entry, source pb.Source) error {
	if old, ok := s.files[r]; ok {
		if old.sum == e.sum {
			s.onChange(change{held: []*pb.HeldFile{old.message(r)}, filled: s.filled.load()})
			return nil
		}
		if _, err := s.removeLocked([]ref{r}, reasonReplaced, s.dispose); err != nil {
			return err
		}
	}
	if err := s.append(fillRecord(s.filled.load()), putRecord(r, e)); err != nil {
		return err
	}
	s.link(r, e)
	s.onChange(change{held: []*pb.HeldFile{e.message(r)}, source: source, filled: s.filled.load()})
	return nil
}

// discard gives the room back if the file was not committed.
func (w *receiver) discard() error {
	if w.done {
		return nil
	}
	w.done = true
	s := w.s
	s.mu.Lock()
	s.reserved -= w.want.size
	w.arrival.fail()
	w.hide()
	var err error
	if w.keeps() {
		err = s.trimPartial()
	} else {
		err = s.root.Remove(w.name)
	}
	s.mu.Unlock()
	return errors.Join(w.f.Close(), err)
}

func sourceName(k pb.Source) string {
	switch k {
	case pb.Source_SOURCE_CACHE:
		return "cache"
	case pb.Source_SOURCE_TIER:
		return "tier"
	case pb.Source_SOURCE_PEER:
		return "peer"
	}
	return "local"
}
