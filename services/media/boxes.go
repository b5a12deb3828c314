package media

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Bounds on what a file may declare, so that a damaged or hostile one costs
// neither memory nor time.
const (
	maxBoxes    = 1 << 16 // top-level boxes of a file
	maxDepthBox = 16 << 20
	// boxHeader is the size of a short box header, bytes.
	boxHeader = 8
)

// Box is the place of one ISO BMFF box (ISO/IEC 14496-12, 4.2) in a file.
type Box struct {
	// Type is the four-character code, e.g. "moof".
	Type string
	// Offset of the header in the file, bytes.
	Offset int64
	// Header is the size of the header, Size that of the whole box, bytes.
	Header, Size int64
}

// End is the offset of the first byte after the box.
func (b Box) End() int64 { return b.Offset + b.Size }

// FormatError says where a file breaks the container format.
type FormatError struct {
	// Offset in the file or, inside a box, in that box's payload.
	Offset  int64
	Problem string
}

func (e *FormatError) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Problem) }

func badFormat(offset int64, format string, args ...any) error {
	return &FormatError{Offset: offset, Problem: fmt.Sprintf(format, args...)}
}

// walkBoxes visits the boxes between two offsets in order, without reading
// their payloads. It stops at the first error, visit's included.
func walkBoxes(r io.ReaderAt, from, to int64, visit func(Box) error) error {
	for n, at := 0, from; at < to; n++ {
		if n == maxBoxes {
			return badFormat(at, "more than %d boxes", maxBoxes)
		}
		b, err := readBox(r, at, to)
		if err != nil {
			return err
		}
		if err := visit(b); err != nil {
			return err
		}
		at = b.End()
	}
	return nil
}

func readBox(r io.ReaderAt, at, to int64) (Box, error) {
	var h [16]byte
	if to-at < boxHeader {
		return Box{}, badFormat(at, "%d stray bytes where a box header should be", to-at)
	}
	if err := readFullAt(r, h[:boxHeader], at); err != nil {
		return Box{}, err
	}
	b := Box{Type: string(h[4:8]), Offset: at, Header: boxHeader, Size: int64(binary.BigEndian.Uint32(h[:4]))}
	switch b.Size {
	case 0: // to the end
		b.Size = to - at
	case 1: // 64-bit size follows
		if to-at < 16 {
			return Box{}, badFormat(at, "box %q is cut off in its header", b.Type)
		}
		if err := readFullAt(r, h[:], at); err != nil {
			return Box{}, err
		}
		large := binary.BigEndian.Uint64(h[8:])
		if large > uint64(to-at) {
			return Box{}, badFormat(at, "box %q of %d bytes passes the end", b.Type, large)
		}
		b.Header, b.Size = 16, int64(large)
	}
	if b.Size < b.Header {
		return Box{}, badFormat(at, "box %q of %d bytes is smaller than its header", b.Type, b.Size)
	}
	if b.Size > to-at {
		return Box{}, badFormat(at, "box %q of %d bytes passes the end", b.Type, b.Size)
	}
	return b, nil
}

func readFullAt(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return badFormat(at+int64(n), "the file ends early")
	}
	return err
}

// readPayload reads the payload of a box, which must be small.
func readPayload(r io.ReaderAt, b Box) ([]byte, error) {
	n := b.Size - b.Header
	if n > maxDepthBox {
		return nil, badFormat(b.Offset, "box %q of %d bytes is larger than the %d read at once", b.Type, b.Size, maxDepthBox)
	}
	p := make([]byte, n)
	return p, readFullAt(r, p, b.Offset+b.Header)
}

// payload is a box's content with a read position; reading past its end sets
// short and yields zeros, so that a parser checks once.
type payload struct {
	b     []byte
	at    int
	short bool
}

func (p *payload) take(n int) []byte {
	if n < 0 || n > len(p.b)-p.at {
		p.short, p.at = true, len(p.b)
		return nil
	}
	p.at += n
	return p.b[p.at-n : p.at]
}

func (p *payload) skip(n int) { p.take(n) }

func (p *payload) u8() uint8 {
	if b := p.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (p *payload) u16() uint16 {
	if b := p.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (p *payload) u32() uint32 {
	if b := p.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *payload) u64() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// full reads the version and flags of a full box.
func (p *payload) full() (version uint8, flags uint32) {
	v := p.u32()
	return uint8(v >> 24), v & 0xffffff
}

// children calls visit for each box in the rest of the payload.
func (p *payload) children(visit func(kind string, body *payload) error) error {
	for p.at < len(p.b) {
		start := p.at
		size, kind := int64(p.u32()), string(p.take(4))
		switch size {
		case 0:
			size = int64(len(p.b) - start)
		case 1:
			large := p.u64()
			if large > uint64(len(p.b)) {
				return badFormat(int64(start), "box %q passes its parent's end", kind)
			}
			size = int64(large)
		}
		n := size - int64(p.at-start)
		if p.short || n < 0 || n > int64(len(p.b)-p.at) {
			return badFormat(int64(start), "box %q passes its parent's end", kind)
		}
		if err := visit(kind, &payload{b: p.take(int(n))}); err != nil {
			return err
		}
	}
	return nil
}
