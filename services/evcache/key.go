package evcache

import (
	"encoding/base64"
	"encoding/binary"
	"unicode/utf8"
)

const (
	// DefaultMaxPlainKey is the longest canonical key, in UTF-16 units as Java
	// counts them, that is stored as it is; longer ones are hashed. It is the
	// original's "max.key.length".
	DefaultMaxPlainKey = 200
	// maxPlainBytes bounds a plain key's bytes: those of the protocol's key less
	// room for a chunk's suffix.
	maxPlainBytes = maxKey - 8
)

// wireKey is where an item lies: the key that memcached sees, and, where that
// is a digest, the canonical key that has to stand in the value.
type wireKey struct {
	id        []byte
	canonical string
	hashed    bool
}

// appendKey appends the wire key of prefix and key: the canonical "prefix:key",
// or the digest of one that is too long, or that memcached would refuse. The
// digest is the original's for "auto.hash.keys": base64 of the SipHash-2-4 of
// the canonical key, without padding and without the prefix.
func appendKey(b []byte, prefix, key string, max int) (out []byte, hashed bool) {
	at := len(b)
	if prefix != "" {
		b = append(append(b, prefix...), ':')
	}
	b = append(b, key...)
	canonical := b[at:]
	if len(canonical) <= min(max, maxPlainBytes) && validKey(canonical) {
		return b, false // no text has more UTF-16 units than bytes
	}
	if len(canonical) <= maxPlainBytes && validKey(canonical) && utf16Len(canonical) <= max {
		return b, false
	}
	var digest [8]byte
	binary.LittleEndian.PutUint64(digest[:], sipHash24(canonical))
	return base64.RawStdEncoding.AppendEncode(b[:at], digest[:]), true
}

// wireKey returns where an item of the client's application lies.
func (c *Client) wireKey(key string) wireKey {
	room := len(c.cfg.Prefix) + 1 + max(len(key), 11)
	id, hashed := appendKey(make([]byte, 0, room), c.cfg.Prefix, key, c.cfg.MaxPlainKey)
	k := wireKey{id: id, hashed: hashed}
	if hashed {
		k.canonical = canonicalKey(c.cfg.Prefix, key)
	}
	return k
}

func canonicalKey(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + ":" + key
}

// utf16Len is the length that Java's String.length gives.
func utf16Len(b []byte) int {
	n := 0
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if n++; r > 0xffff {
			n++
		}
		b = b[size:]
	}
	return n
}
