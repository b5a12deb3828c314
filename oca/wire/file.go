package wire

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Meta is what is said of a file in the header of an answer.
type Meta struct {
	// Size in bytes.
	Size int64
	// ETag is a strong entity tag, with its quotes.
	ETag string
	// Modified is when the file was changed last; zero if nobody knows.
	Modified time.Time
	// Type is its media type.
	Type string
	// fields are the prepared ones, raw the same as text.
	fields []Field
	raw    string
}

// NewMeta prepares the header of a file. cache is the value of Cache-Control,
// fields are further ones.
func NewMeta(size int64, etag string, modified time.Time, mediaType, cache string, fields ...Field) *Meta {
	m := &Meta{Size: size, ETag: etag, Modified: modified, Type: mediaType}
	m.fields = append(m.fields, Field{"Accept-Ranges", "bytes"}, Field{"Cache-Control", cache}, Field{"ETag", etag})
	if !modified.IsZero() {
		m.fields = append(m.fields, Field{"Last-Modified", modified.UTC().Format(httpDate)})
	}
	m.fields = append(m.fields, fields...)
	var b strings.Builder
	for _, f := range m.fields {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	m.raw = b.String()
	return m
}

// File is an open file that several answers send at once. It is closed when
// the last of them, and whoever opened it, has released it.
type File struct {
	*Meta
	f    *os.File
	fd   int
	refs atomic.Int32
	grow Growth
	sent atomic.Int64 // the tick at which it was asked for last
	bad  atomic.Bool
	same func() bool
}

// never is a tick long ago.
const never = -1 << 40

// Growth is a file whose bytes are still arriving.
type Growth interface {
	// Await waits until the byte at off has come, and returns up to where
	// bytes may be read. It gives up when ctx ends or nothing more will come.
	Await(ctx context.Context, off int64) (limit int64, err error)
}

// NewFile takes over an open file. The caller holds the first reference. grow
// is nil for a file that is all there.
func NewFile(f *os.File, m *Meta, grow Growth) *File {
	w := &File{Meta: m, f: f, fd: int(f.Fd()), grow: grow}
	w.refs.Store(1)
	w.sent.Store(never)
	return w
}

// Acquire takes another reference, unless the last was released.
func (w *File) Acquire() bool {
	for {
		n := w.refs.Load()
		if n == 0 {
			return false
		}
		if w.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a reference back.
func (w *File) Release() {
	if w.refs.Add(-1) == 0 {
		w.f.Close()
	}
}

// Spoil breaks off every answer that sends the file: its bytes are not what
// they should be.
func (w *File) Spoil() { w.bad.Store(true) }

// Guard gives the file a check that it is still as it was opened, which is asked
// for every further part of an answer; an answer of a file that is not breaks off.
// It is called before the file is sent.
func (w *File) Guard(same func() bool) { w.same = same }

// sound says why no more of the file may be sent.
func (w *File) sound() error {
	if w.bad.Load() {
		return errSpoiled
	}
	if w.same != nil && !w.same() {
		return errChanged
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (w *File) ReadAt(b []byte, off int64) (int, error) { return w.f.ReadAt(b, off) }

// Stat is os.File.Stat.
func (w *File) Stat() (os.FileInfo, error) { return w.f.Stat() }

// await returns up to where the file may be sent, which is past off.
func (w *File) await(ctx context.Context, off int64) (int64, error) {
	if w.grow == nil {
		return w.Size, nil
	}
	return w.grow.Await(ctx, off)
}
