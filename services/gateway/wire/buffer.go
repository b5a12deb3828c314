package wire

import (
	"io"
	"net/http"
	"sync"
)

const (
	// smallBuffer holds a usual request, and the header of an answer.
	smallBuffer = 4 << 10
	// largeBuffer holds an answer of 16 KiB with its header in one read.
	largeBuffer = 32 << 10
)

// Buffers are the pooled buffers that connections share. A connection holds
// one only while it carries something, and a server's none while its answer is
// waited for.
type Buffers struct{ small, large sync.Pool }

// NewBuffers returns an empty set.
func NewBuffers() *Buffers {
	b := new(Buffers)
	b.small.New = func() any { return new([smallBuffer]byte) }
	b.large.New = func() any { return new([largeBuffer]byte) }
	return b
}

// get returns a buffer of a size.
func (b *Buffers) get(size int) []byte {
	if size == smallBuffer {
		return b.small.Get().(*[smallBuffer]byte)[:]
	}
	return b.large.Get().(*[largeBuffer]byte)[:]
}

// put takes a buffer back; one that has grown is left to the collector.
func (b *Buffers) put(p []byte) {
	switch cap(p) {
	case smallBuffer:
		b.small.Put((*[smallBuffer]byte)(p[:smallBuffer]))
	case largeBuffer:
		b.large.Put((*[largeBuffer]byte)(p[:largeBuffer]))
	}
}

// reader reads from a connection through a pooled buffer.
type reader struct {
	src     io.Reader
	buffers *Buffers
	size    int    // of a new buffer
	buf     []byte // nil while nothing is held
	r, w    int    // buf[r:w] is unread
}

func (rd *reader) buffered() int { return rd.w - rd.r }

// release gives an empty buffer back.
func (rd *reader) release() {
	if rd.buf != nil && rd.r == rd.w {
		rd.buffers.put(rd.buf)
		rd.buf, rd.r, rd.w = nil, 0, 0
	}
}

// unread puts bytes that were read elsewhere before those to come. The buffer
// must be empty, and hold them.
func (rd *reader) unread(p []byte) {
	if len(p) > 0 {
		rd.buf = rd.buffers.get(rd.size)
		rd.r, rd.w = 0, copy(rd.buf, p)
	}
}

// drop gives the buffer back with what is in it.
func (rd *reader) drop() {
	rd.r = rd.w
	rd.release()
}

// errFull says that max bytes are buffered already.
var errFull error = &BadMessage{http.StatusRequestHeaderFieldsTooLarge, "the header is too long"}

// fill reads once, behind what is unread. The buffer grows to max bytes.
func (rd *reader) fill(most int) error {
	switch {
	case rd.buf == nil:
		rd.buf = rd.buffers.get(rd.size)
	case rd.r == rd.w:
		rd.r, rd.w = 0, 0
	case rd.w == len(rd.buf) && rd.r > 0:
		rd.w = copy(rd.buf, rd.buf[rd.r:rd.w])
		rd.r = 0
	}
	if rd.w == len(rd.buf) {
		if rd.w >= most {
			return errFull
		}
		grown := make([]byte, min(most, 4*len(rd.buf)))
		copy(grown, rd.buf)
		rd.buffers.put(rd.buf)
		rd.buf = grown
	}
	n, err := rd.src.Read(rd.buf[rd.w:])
	rd.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
