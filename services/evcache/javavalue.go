package evcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// An item under a digest carries its canonical key, so that two keys of one
// digest are told apart. The original keeps it, with the value's own flags, in
// an object of its class EVCacheValue, written by Java's serialization
// (Object Serialization Stream Protocol, version 5). This file writes and reads
// exactly that object.

const (
	javaClass = "com.netflix.evcache.pool.EVCacheValue"
	// javaClassID is the class's serialVersionUID.
	javaClassID = 3182483105524224448
	// javaArrayID is that of Java's class "[B".
	javaArrayID = -5984413125824719648

	tcNull       = 0x70
	tcClassDesc  = 0x72
	tcObject     = 0x73
	tcString     = 0x74
	tcArray      = 0x75
	tcEndBlock   = 0x78
	tcLongString = 0x7c
	scSerial     = 0x02
)

// javaValue is the original's EVCacheValue.
type javaValue struct {
	key   string
	value []byte
	flags uint32
	// ttl in seconds and creation time in milliseconds since 1970.
	ttl, created int64
}

// javaHead is everything before the fields' values: the stream's magic, and the
// class with its fields, primitive ones first, each group by name.
func javaHead() []byte {
	b := []byte{0xac, 0xed, 0, 5, tcObject, tcClassDesc}
	b = appendJavaUTF(b, javaClass)
	b = binary.BigEndian.AppendUint64(b, javaClassID)
	b = append(b, scSerial, 0, 5)
	for _, f := range []struct {
		kind byte
		name string
		of   string
	}{{'J', "createTime", ""}, {'I', "flags", ""}, {'J', "ttl", ""}, {'L', "key", "Ljava/lang/String;"}, {'[', "value", "[B"}} {
		b = appendJavaUTF(append(b, f.kind), f.name)
		if f.of != "" {
			b = appendJavaUTF(append(b, tcString), f.of)
		}
	}
	return append(b, tcEndBlock, tcNull)
}

// javaArrayHead is what stands before the length of a byte array.
func javaArrayHead() []byte {
	id := int64(javaArrayID)
	b := appendJavaUTF([]byte{tcArray, tcClassDesc}, "[B")
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	return append(b, scSerial, 0, 0, tcEndBlock, tcNull)
}

// encode writes the object as Java's ObjectOutputStream does.
func (v javaValue) encode() []byte {
	b := javaHead()
	b = binary.BigEndian.AppendUint64(b, uint64(v.created))
	b = binary.BigEndian.AppendUint32(b, v.flags)
	b = binary.BigEndian.AppendUint64(b, uint64(v.ttl))
	if text := javaUTF(v.key); len(text) <= math.MaxUint16 {
		b = append(binary.BigEndian.AppendUint16(append(b, tcString), uint16(len(text))), text...)
	} else {
		b = append(binary.BigEndian.AppendUint64(append(b, tcLongString), uint64(len(text))), text...)
	}
	b = append(b, javaArrayHead()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(v.value)))
	return append(b, v.value...)
}

var errNotJava = errors.New("not an EVCacheValue")

// decodeJavaValue reads what encode or the original wrote. The value aliases b.
func decodeJavaValue(b []byte) (v javaValue, err error) {
	r := javaReader{b}
	if !r.skip(javaHead()) || len(r.b) < 8+4+8 {
		return v, errNotJava
	}
	v.created = int64(binary.BigEndian.Uint64(r.b))
	v.flags = binary.BigEndian.Uint32(r.b[8:])
	v.ttl = int64(binary.BigEndian.Uint64(r.b[12:]))
	r.b = r.b[20:]
	key, ok := r.text()
	if !ok {
		return v, errNotJava
	}
	if v.key, ok = fromJavaUTF(key); !ok || !r.skip(javaArrayHead()) || len(r.b) < 4 {
		return v, errNotJava
	}
	n := binary.BigEndian.Uint32(r.b)
	if r.b = r.b[4:]; uint64(n) != uint64(len(r.b)) {
		return v, errNotJava
	}
	v.value = r.b
	return v, nil
}

// javaReader takes a stream apart from its front.
type javaReader struct{ b []byte }

func (r *javaReader) skip(head []byte) bool {
	ok := bytes.HasPrefix(r.b, head)
	if ok {
		r.b = r.b[len(head):]
	}
	return ok
}

// text reads a string object.
func (r *javaReader) text() ([]byte, bool) {
	var n, head uint64
	switch {
	case len(r.b) >= 3 && r.b[0] == tcString:
		n, head = uint64(binary.BigEndian.Uint16(r.b[1:])), 3
	case len(r.b) >= 9 && r.b[0] == tcLongString:
		n, head = binary.BigEndian.Uint64(r.b[1:]), 9
	default:
		return nil, false
	}
	if n > uint64(len(r.b))-head {
		return nil, false
	}
	out := r.b[head : head+n]
	r.b = r.b[head+n:]
	return out, true
}

func appendJavaUTF(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// javaUTF encodes a text in Java's modified UTF-8: NUL has two bytes, and a
// rune beyond 16 bits is two surrogates of three bytes each.
func javaUTF(s string) []byte {
	out := make([]byte, 0, len(s))
	unit := func(u rune) {
		out = append(out, 0xe0|byte(u>>12), 0x80|byte(u>>6)&0xbf, 0x80|byte(u)&0x3f)
	}
	for _, r := range s {
		switch {
		case r == 0:
			out = append(out, 0xc0, 0x80)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			unit(hi)
			unit(lo)
		default:
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// fromJavaUTF is the inverse of javaUTF.
func fromJavaUTF(b []byte) (string, bool) {
	var units []uint16
	for len(b) > 0 {
		switch c := b[0]; {
		case c < 0x80:
			units, b = append(units, uint16(c)), b[1:]
		case c&0xe0 == 0xc0 && len(b) > 1 && b[1]&0xc0 == 0x80:
			units, b = append(units, uint16(c&0x1f)<<6|uint16(b[1]&0x3f)), b[2:]
		case c&0xf0 == 0xe0 && len(b) > 2 && b[1]&0xc0 == 0x80 && b[2]&0xc0 == 0x80:
			units, b = append(units, uint16(c&0x0f)<<12|uint16(b[1]&0x3f)<<6|uint16(b[2]&0x3f)), b[3:]
		default:
			return "", false
		}
	}
	return string(utf16.Decode(units)), true
}
