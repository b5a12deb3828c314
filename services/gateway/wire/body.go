package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// framing says where a body ends.
type framing byte

const (
	noBody framing = iota
	byLength
	byChunks
	byClose
)

const (
	// maxChunkLine bounds a chunk's size with its extensions.
	maxChunkLine = 4 << 10
	// maxExtensions bounds the extensions of all chunks of a body beyond
	// its share: a body is not to be made of them.
	maxExtensions = 16 << 10
)

// body takes the framing off a message's body.
type body struct {
	rd      *reader
	framing framing
	left    int64 // of the body, or of the current chunk
	begun   bool  // a chunk has been read: CRLF comes before the next
	extra   int   // bytes of extensions
	err     error // how it ended, io.EOF included
	trailer *Fields
}

func (b *body) reset(rd *reader, f framing, length int64) {
	*b = body{rd: rd, framing: f}
	if f == byLength {
		b.left = length
	}
	if f == noBody || f == byLength && length == 0 {
		b.err = io.EOF
	}
}

// ended says that the body was read to its end.
func (b *body) ended() bool {
	return b.err != nil && errors.Is(b.err, io.EOF) && !errors.Is(b.err, io.ErrUnexpectedEOF)
}

// next returns the next piece, valid until the next call. more says that the
// next call will not have to wait.
func (b *body) next() (p []byte, more bool, err error) {
	if err := b.await(); err != nil {
		return nil, false, err
	}
	n := b.rd.buffered()
	if b.framing != byClose {
		n = int(min(int64(n), b.left))
	}
	p = b.rd.buf[b.rd.r : b.rd.r+n]
	b.took(n)
	return p, b.ready(), nil
}

// read is io.Reader's.
func (b *body) read(p []byte) (int, error) {
	if b.err == nil && b.rd.buffered() == 0 && len(p) >= smallBuffer && (b.framing == byClose || b.left > 0) {
		return b.readThrough(p)
	}
	if err := b.await(); err != nil {
		return 0, err
	}
	n := min(len(p), b.rd.buffered())
	if b.framing != byClose {
		n = int(min(int64(n), b.left))
	}
	n = copy(p, b.rd.buf[b.rd.r:b.rd.r+n])
	b.took(n)
	return n, nil
}

// readThrough reads past the buffer.
func (b *body) readThrough(p []byte) (int, error) {
	if b.framing != byClose && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.rd.src.Read(p)
	if n > 0 {
		if b.framing != byClose {
			b.left -= int64(n)
			b.settle()
		}
		return n, nil
	}
	return 0, b.broke(err)
}

// took accounts for n bytes handed out of the buffer.
func (b *body) took(n int) {
	b.rd.r += n
	if b.framing != byClose {
		b.left -= int64(n)
		b.settle()
	}
}

// settle ends a body of known length as soon as its last byte is read.
func (b *body) settle() {
	if b.left == 0 && b.framing == byLength {
		b.err = io.EOF
	}
}

// broke turns the connection's error into the body's, which stays.
func (b *body) broke(err error) error {
	if errors.Is(err, io.EOF) && b.framing != byClose {
		err = io.ErrUnexpectedEOF
	}
	if !isTimeout(err) {
		b.err = err
	}
	return err
}

// await returns once there is a byte of the body in the buffer.
func (b *body) await() error {
	for {
		if b.err != nil {
			return b.err
		}
		if b.framing == byChunks && b.left == 0 {
			ok, err := b.chunk()
			if err != nil {
				b.err = err
				return err
			}
			if ok {
				continue
			}
		} else if b.rd.buffered() > 0 {
			return nil
		}
		if err := b.rd.fill(largeBuffer); err != nil {
			return b.broke(err)
		}
	}
}

// ready says, without waiting, whether next would not wait.
func (b *body) ready() bool {
	if b.err != nil {
		return true
	}
	if b.framing == byChunks && b.left == 0 {
		if ok, err := b.chunk(); err != nil {
			b.err = err
			return true
		} else if !ok {
			return false
		}
		if b.err != nil {
			return true
		}
	}
	return b.rd.buffered() > 0
}

// chunk reads what stands before the next chunk's data, if it is all in the
// buffer; after the last chunk that is the trailer, and the body's end.
func (b *body) chunk() (ok bool, err error) {
	rest := b.rd.buf[b.rd.r:b.rd.w]
	off := 0
	if b.begun {
		switch {
		case len(rest) > 0 && rest[0] != '\r', len(rest) > 1 && rest[1] != '\n':
			return false, bad("a chunk is longer than its size")
		case len(rest) < 2:
			return false, nil
		}
		off = 2
	}
	i := bytes.IndexByte(rest[off:], '\n')
	if i < 0 {
		if len(rest)-off > maxChunkLine {
			return false, bad("a chunk's size is too long")
		}
		return false, nil
	}
	line := rest[off : off+i]
	if len(line) == 0 || len(line) > maxChunkLine || line[len(line)-1] != '\r' {
		return false, bad("a chunk's size ends without CR")
	}
	size, ext, err := chunkSize(line[:len(line)-1])
	if err != nil {
		return false, err
	}
	// A client that sends a byte of extension with every byte of data is up
	// to no good; one with signatures on large chunks is not.
	if b.extra += ext - min(ext, int(min(size, 1<<20)/16)); b.extra > maxExtensions {
		return false, bad("too many chunk extensions")
	}
	off += i + 1
	if size == 0 {
		n, err := b.readTrailer(rest[off:])
		if n == 0 || err != nil {
			return false, err
		}
		b.rd.r += off + n
		b.err = io.EOF
		return true, nil
	}
	b.rd.r += off
	b.left, b.begun = size, true
	return true, nil
}

// chunkSize reads a chunk's size line without its end.
func chunkSize(line []byte) (size int64, ext int, err error) {
	i := 0
	for ; i < len(line); i++ {
		c := line[i]
		var d byte
		switch {
		case isDigit(c):
			d = c - '0'
		case 'a' <= lower(c) && lower(c) <= 'f':
			d = lower(c) - 'a' + 10
		default:
			goto done
		}
		if i == 15 {
			return 0, 0, bad("a chunk is too large")
		}
		size = size<<4 | int64(d)
	}
done:
	if i == 0 {
		return 0, 0, bad("a chunk has no size")
	}
	rest := line[i:]
	if len(rest) == 0 {
		return size, 0, nil
	}
	if t := bytes.TrimLeft(rest, " \t"); len(t) == 0 || t[0] != ';' {
		return 0, 0, bad("a chunk's size is not a number")
	}
	for _, c := range rest {
		if chars[c]&isText == 0 {
			return 0, 0, bad("a chunk extension has a control character")
		}
	}
	return size, len(rest), nil
}

// readTrailer reads the trailer at the start of p and returns its length; 0 if
// more must come.
func (b *body) readTrailer(p []byte) (int, error) {
	switch {
	case len(p) == 0, len(p) == 1 && p[0] == '\r':
		return 0, nil
	case p[0] == '\r' && p[1] == '\n':
		return 2, nil
	}
	end, err := headEnd(p)
	if err != nil {
		return 0, err
	}
	if end == 0 {
		if len(p) > maxTrailer {
			return 0, bad("the trailer is too long")
		}
		return 0, nil
	}
	h := head{fields: new(Fields)}
	if err := h.parse(string(p[:end])); err != nil {
		return 0, err
	}
	if h.coded || h.length >= 0 || h.hosts > 0 {
		return 0, bad("a trailer cannot frame the message")
	}
	b.trailer = h.fields
	return end, nil
}

// appendChunk appends a chunk's size line.
func appendChunk(dst []byte, n int) []byte {
	const hex = "0123456789abcdef"
	var d [16]byte
	i := len(d)
	for {
		i--
		d[i] = hex[n&15]
		if n >>= 4; n == 0 {
			break
		}
	}
	dst = append(dst, d[i:]...)
	return append(dst, '\r', '\n')
}

// appendFields appends the fields of a section, but those that skip names.
func appendFields(dst []byte, f *Fields, skip func(name string) bool) []byte {
	if f == nil {
		return dst
	}
	for i := range f.list {
		if o := &f.list[i]; skip == nil || !skip(o.Name) {
			dst = appendField(dst, o.Name, o.Value)
		}
	}
	return dst
}

// appendField appends one line. A value that would break out of it loses the
// bytes that do.
func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ':', ' ')
	if strings.IndexByte(value, '\n') < 0 && strings.IndexByte(value, '\r') < 0 && strings.IndexByte(value, 0) < 0 {
		dst = append(dst, value...)
	} else {
		for i := 0; i < len(value); i++ {
			if chars[value[i]]&isText != 0 {
				dst = append(dst, value[i])
			} else {
				dst = append(dst, ' ')
			}
		}
	}
	return append(dst, '\r', '\n')
}

func isTimeout(err error) bool {
	if err == nil || err == io.EOF { //nolint:errorlint // the usual ones, as they are
		return false
	}
	if t, ok := err.(interface{ Timeout() bool }); ok {
		return t.Timeout()
	}
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// shortBody says that a body ended before its length.
func shortBody(have, want int64) error {
	return fmt.Errorf("the body ended after %d of %d bytes: %w", have, want, io.ErrUnexpectedEOF)
}
