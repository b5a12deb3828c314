package evcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/flix-lab/flix/services"
)

// The flags of the original's transcoder, which are spymemcached's.
const (
	flagSerialized = 1
	flagCompressed = 2
	flagTypes      = 0xff00
)

// Kind says what a value's bytes are to a client in Java.
type Kind uint32

// The kinds of values. The zero value is a text.
const (
	Text   Kind = 0
	Bool   Kind = 1 << 8
	Int    Kind = 2 << 8
	Long   Kind = 3 << 8
	Date   Kind = 4 << 8
	Byte   Kind = 5 << 8
	Float  Kind = 6 << 8
	Double Kind = 7 << 8
	Bytes  Kind = 8 << 8
	// Object is a Java object in its serialized form.
	Object Kind = flagSerialized
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Text:
		return "string"
	case Bool:
		return "boolean"
	case Int:
		return "int"
	case Long:
		return "long"
	case Date:
		return "date"
	case Byte:
		return "byte"
	case Float:
		return "float"
	case Double:
		return "double"
	case Bytes:
		return "bytes"
	case Object:
		return "object"
	}
	return "kind " + strconv.FormatUint(uint64(k), 16)
}

// Item is a value as its writer gave it.
type Item struct {
	Value []byte
	Kind  Kind
	// Stored is what it takes in the cache, in bytes: less than Value where it
	// was compressed.
	Stored int
	// Compressed says whether it was, Chunks how many pieces it lies in (0: in
	// one item), Hashed whether it lies under the digest of its key.
	Compressed bool
	Chunks     int
	Hashed     bool
	// Zone it was read from.
	Zone string
}

// String shows the value to a person: numbers and dates as such, a text as it
// is, anything else quoted where it is no text.
func (i Item) String() string {
	n := func() uint64 {
		var v uint64
		for _, b := range i.Value {
			v = v<<8 | uint64(b)
		}
		return v
	}
	switch i.Kind {
	case Bool:
		return strconv.FormatBool(len(i.Value) == 1 && i.Value[0] == '1')
	case Int:
		return strconv.Itoa(int(int32(n())))
	case Long:
		return strconv.FormatInt(int64(n()), 10)
	case Byte:
		return strconv.Itoa(int(int8(n())))
	case Date:
		return time.UnixMilli(int64(n())).UTC().Format(time.RFC3339Nano)
	case Float:
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(n()))), 'g', -1, 32)
	case Double:
		return strconv.FormatFloat(math.Float64frombits(n()), 'g', -1, 64)
	}
	return string(i.Value)
}

// raw is an item as it lies in memcached.
type raw struct {
	value []byte
	flags uint32
}

// codec turns values into what is stored and back. Safe for concurrent use.
type codec struct {
	// over is the size beyond which a value is compressed, in bytes; negative:
	// never.
	over    int
	writers sync.Pool // *deflater
	readers sync.Pool // *inflater
}

// deflater is a compressor with its output.
type deflater struct {
	w   *gzip.Writer
	out bytes.Buffer
}

// encode makes the stored form of a value: compressed with gzip if it is long
// and that makes it shorter.
func (c *codec) encode(value []byte, k Kind) (raw, error) {
	v := raw{value: value, flags: uint32(k)}
	if c.over < 0 || len(value) <= c.over {
		return v, nil
	}
	d, ok := c.writers.Get().(*deflater)
	if !ok {
		d = &deflater{}
		var err error
		if d.w, err = gzip.NewWriterLevel(&d.out, gzip.BestSpeed); err != nil {
			return v, err
		}
	}
	d.out.Reset()
	d.w.Reset(&d.out)
	_, err := d.w.Write(value)
	if err == nil {
		err = d.w.Close()
	}
	if err != nil {
		return v, err
	}
	if d.out.Len() < len(value) {
		v = raw{value: bytes.Clone(d.out.Bytes()), flags: v.flags | flagCompressed}
	}
	if d.out.Cap() <= maxItem { // one that has grown is not kept
		c.writers.Put(d)
	}
	return v, nil
}

// decode is the inverse of encode. Its result may alias the stored value.
func (c *codec) decode(v raw) (Item, error) {
	it := Item{Value: v.value, Kind: Kind(v.flags & flagTypes), Stored: len(v.value)}
	if v.flags&flagSerialized != 0 {
		it.Kind = Object
	}
	if v.flags&flagCompressed == 0 {
		return it, nil
	}
	it.Compressed = true
	r, ok := c.readers.Get().(*inflater)
	if !ok {
		r = new(inflater)
	}
	var err error
	it.Value, err = r.inflate(v.value)
	c.readers.Put(r)
	if err != nil {
		return Item{}, &services.Error{Kind: services.Internal, Msg: "the cached value does not decompress", Err: err}
	}
	return it, nil
}

// inflater is a decompressor with its input.
type inflater struct {
	r  gzip.Reader
	in bytes.Reader
}

// inflate returns the value that was packed, up to the longest there may be.
func (d *inflater) inflate(packed []byte) ([]byte, error) {
	d.in.Reset(packed)
	defer d.in.Reset(nil) // it keeps nobody's value
	if err := d.r.Reset(&d.in); err != nil {
		return nil, err
	}
	out := make([]byte, 0, room(packed))
	for {
		n, err := d.r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > maxChunked:
			return nil, fmt.Errorf("more than %d bytes", maxChunked)
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		case len(out) == cap(out):
			out = slices.Grow(out, bytes.MinRead)
		}
	}
}

// room is how long a packed value says that it is, in its last four bytes (RFC
// 1952, ISIZE), and one more to find its end with; no more than deflate can make
// of so many bytes.
func room(packed []byte) int {
	const most = 1032 // to one: 258 bytes from two bits
	says := 0
	if n := len(packed); n >= 4 {
		says = int(binary.LittleEndian.Uint32(packed[n-4:]))
	}
	return min(says, most*len(packed), maxChunked) + 1
}
