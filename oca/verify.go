package oca

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// doubts is the objects somebody doubts, and whether to look at all of them.
// It holds each at most once. Safe for concurrent use.
type doubts struct {
	note chan struct{} // has a token when there is something to do

	mu         sync.Mutex
	sums       map[sum]struct{}
	scan, deep bool
}

func newDoubts() *doubts { return &doubts{note: make(chan struct{}, 1), sums: map[sum]struct{}{}} }

func (d *doubts) add(digest sum) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sums[digest] = struct{}{}
	d.tell()
}

func (d *doubts) rescan(deep bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.scan, d.deep = true, d.deep || deep
	d.tell()
}

func (d *doubts) tell() {
	select {
	case d.note <- struct{}{}:
	default:
	}
}

func (d *doubts) take() (sums []sum, scan, deep bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for digest := range d.sums {
		sums = append(sums, digest)
	}
	scan, deep = d.scan, d.deep
	clear(d.sums)
	d.scan, d.deep = false, false
	return sums, scan, deep
}

// verifyFile doubts the object behind a name. A name that is not stored is
// reported missing, since cache control believes it is.
func (s *Server) verifyFile(r ref) {
	if digest, ok := s.store.lookup(r); ok {
		s.doubts.add(digest)
		return
	}
	s.outbox.send(&pb.ApplianceMessage{Body: &pb.ApplianceMessage_Removed{Removed: &pb.Removed{Files: []*pb.HeldFile{r.held(0)}, Reason: reasonMissing}}})
}

func (s *store) lookup(r ref) (sum, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.files[r]
	return e.sum, ok
}

// verifyLoop reads again what is doubted, one object at a time.
func (s *Server) verifyLoop(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.doubts.note:
		}
		sums, scan, deep := s.doubts.take()
		for _, digest := range sums {
			s.judge(ctx, digest, true)
		}
		if !scan {
			continue
		}
		for _, st := range s.store.list() {
			s.judge(ctx, st.sum, deep)
		}
	}
}

// scrubLoop reads every stored file once per ScrubInterval, spread over it.
func (s *Server) scrubLoop(ctx context.Context) error {
	interval := s.d.Timing.ScrubInterval.D()
	for {
		all := s.store.list()
		if len(all) == 0 {
			if !sleep(ctx, interval) {
				return nil
			}
			continue
		}
		pause := max(interval/time.Duration(len(all)), time.Millisecond)
		for _, st := range all {
			if !sleep(ctx, pause) {
				return nil
			}
			s.judge(ctx, st.sum, true)
			s.metrics.scrubbed.Inc()
		}
	}
}

// judge looks at an object, or reads it when deep, and takes it out of service
// if it is not what it should be.
func (s *Server) judge(ctx context.Context, digest sum, deep bool) {
	verdict, err := s.store.inspect(ctx, digest, deep)
	switch verdict {
	case reasonMissing:
		err = s.store.dropObject(digest, reasonMissing)
	case reasonDamaged:
		s.metrics.quarantined.Inc()
		_, err = s.store.quarantine(digest)
	}
	if verdict != "" {
		s.d.Tel.Log.Warn("a stored file is bad", "sha256", digest.String(), "verdict", verdict)
	}
	if err != nil && ctx.Err() == nil {
		s.diskFailed(err)
	}
}

// inspect returns reasonMissing, reasonDamaged or "" for a good object or one
// that is not stored. A read error is reasonDamaged.
func (s *store) inspect(ctx context.Context, digest sum, deep bool) (verdict string, err error) {
	s.mu.RLock()
	o := s.objects[digest]
	s.mu.RUnlock()
	if o == nil {
		return "", nil
	}
	f, err := s.root.Open(digest.objectPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return reasonMissing, nil
	case err != nil:
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || uint64(info.Size()) != o.size {
		return reasonDamaged, nil
	}
	if !deep {
		return "", nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, &contextReader{ctx, f}); err != nil {
		if ctx.Err() != nil {
			return "", nil
		}
		return reasonDamaged, nil
	}
	if sum(h.Sum(nil)) != digest {
		return reasonDamaged, nil
	}
	return "", nil
}

// contextReader stops a long read when the context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// dropObject takes away all names of an object whose bytes are gone.
func (s *store) dropObject(digest sum, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[digest]
	if o == nil {
		return nil
	}
	refs := make([]ref, 0, len(o.refs))
	for r := range o.refs {
		refs = append(refs, r)
	}
	_, err := s.removeLocked(refs, reason, s.dispose)
	return err
}

var _ services.Drainer = (*Server)(nil)
