package oca

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
	"github.com/flix-lab/flix/services/token"
)

// errUseless says that a source has not got the file, or will not give it.
var errUseless = errors.New("the source is of no use")

// transfer brings the bytes of one file from its sources to a receiver.
type transfer struct {
	f *filler
	w *receiver
	// origin is the URL all bytes so far came from; mixed once there were two.
	origin string
	mixed  bool
}

// sink takes a file's bytes in their order, from one source.
type sink interface {
	io.Writer
	// position is where the next byte goes.
	position() uint64
	// rewind makes that the first one: the source knows no ranges.
	rewind() error
}

// from fetches what is missing from one source and stores the file when all
// of it is there. A connection that broke is resumed where it stopped, as long
// as each attempt gets further. errChecksum blames the source only if every
// byte that was compared came from it; otherwise the file is fetched anew from
// this one.
func (t *transfer) from(ctx context.Context, src *pb.FillSource) error {
	var to sink = t.w
	if len(t.w.chunks.sums) > 0 {
		to = &stream{w: t.w, at: t.w.offset}
	}
	for {
		before := to.position()
		if err := t.get(ctx, src, to); !t.w.complete() {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			if to.position() > before && !errors.Is(err, errUseless) && !errors.Is(err, errChecksum) && services.ReasonOf(err) != reasonDisk && ctx.Err() == nil {
				continue
			}
			return fmt.Errorf("%s: %w", sourceLabel(src), err)
		}
		err := t.commit(src)
		if !errors.Is(err, errChecksum) {
			return err
		}
		if err := to.rewind(); err != nil {
			return err
		}
		if !t.mixed {
			return fmt.Errorf("%s: %w", sourceLabel(src), errChecksum)
		}
	}
}

// commit stores a file that is complete. When each of its chunks is as published
// and the whole is not, no source is to blame, and none is of use.
func (t *transfer) commit(src *pb.FillSource) error {
	err := t.w.commit(src)
	if len(t.w.chunks.sums) > 0 && errors.Is(err, errChecksum) {
		return errors.Join(fmt.Errorf("%w: its chunks are right and the whole is not", errUseless), t.w.rewind())
	}
	return err
}

// sourceLabel names a source without the signature in its URL.
func sourceLabel(src *pb.FillSource) string {
	if src.GetAppliance() != "" {
		return src.GetAppliance()
	}
	return "object store of " + src.GetRegion()
}

// sourceFrom names a source in the index.
func sourceFrom(src *pb.FillSource) string {
	if src.GetAppliance() != "" {
		return src.GetAppliance()
	}
	return "origin/" + src.GetRegion()
}

// get makes one request for the bytes from a sink's position on.
func (t *transfer) get(ctx context.Context, src *pb.FillSource, to sink) error {
	if t.w.complete() {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := t.request(ctx, src, to.position(), t.w.want.size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := t.accept(resp, to); err != nil {
		return err
	}
	if to.position() == 0 {
		t.origin, t.mixed = src.GetUrl(), false
	} else if t.origin != src.GetUrl() {
		t.mixed = true
	}
	return t.copy(ctx, cancel, to, resp.Body, src.GetSource())
}

// request asks a source for the bytes of the file between two offsets.
func (t *transfer) request(ctx context.Context, src *pb.FillSource, from, to uint64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src.GetUrl(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUseless, err)
	}
	if src.GetAppliance() != "" && !t.f.s.d.NoAuth {
		d := t.f.s.d
		req.Header.Set("Authorization", "Bearer "+d.Key.Sign(token.Fill, token.Claims{Client: string(d.ID), Title: t.w.ref.title}, d.Clock(), max(d.Timing.ReportExpiry.D(), time.Minute)))
	}
	switch {
	case to < t.w.want.size:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	case from > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := t.f.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	return resp, nil
}

// accept checks that the answer holds the bytes asked for.
func (t *transfer) accept(resp *http.Response, to sink) error {
	if resp.StatusCode == http.StatusOK {
		if resp.ContentLength >= 0 && uint64(resp.ContentLength) != t.w.want.size {
			return fmt.Errorf("%w: it has %d bytes, want %d", errUseless, resp.ContentLength, t.w.want.size)
		}
		if to.position() > 0 { // it knows no ranges
			return to.rewind()
		}
		return nil
	}
	return t.acceptRange(resp, to.position(), t.w.want.size)
}

// acceptRange checks that an answer is the range that was asked for.
func (t *transfer) acceptRange(resp *http.Response, from, to uint64) error {
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-%d/%d", from, to-1, t.w.want.size)
		if got := resp.Header.Get("Content-Range"); got != want {
			return fmt.Errorf("%w: it gave %q, want %q", errUseless, got, want)
		}
		return nil
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError:
		return services.Errorf(services.Unavailable, "it answered %s", resp.Status)
	}
	return fmt.Errorf("%w: it answered %s", errUseless, resp.Status)
}

// copy stores a body, at the pace of the fill bucket. A source from which
// nothing comes for ReportExpiry counts as broken.
func (t *transfer) copy(ctx context.Context, cancel func(), w io.Writer, body io.Reader, kind pb.Source) error {
	patience := t.f.s.d.Timing.ReportExpiry.D()
	stalled := time.AfterFunc(patience, cancel)
	defer stalled.Stop()
	pooled, _ := t.f.buffers.Get().(*[]byte)
	defer t.f.buffers.Put(pooled)
	buf := *pooled
	for {
		n, err := body.Read(buf)
		if n > 0 {
			t.f.s.store.filled.add(kind, uint64(n))
			t.f.s.metrics.filled.WithLabelValues(sourceName(kind)).Add(float64(n))
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			stalled.Stop() // waiting for the bucket is not the source's fault
			if werr := t.f.s.fillInBucket.wait(ctx, n); werr != nil {
				return werr
			}
			stalled.Reset(patience)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return withoutURL(err)
		}
	}
}

// withoutURL takes the URL, and so a signature, out of a client's error.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
