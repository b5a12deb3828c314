package evcache

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	// DefaultChunkSize is the original's "chunk.size": what one chunk takes in
	// memcached with its key and header, in bytes.
	DefaultChunkSize = 1180
	// chunkOverhead is what the original counts for a chunk beside its key: 71
	// bytes of memcached's header and 3 of the suffix.
	chunkOverhead = 71 + 3
	// minChunk is the least payload of a chunk, so that a long key leaves room.
	minChunk = 64
	// maxChunked bounds a value that is put together again; the original's
	// bound of a value, and some room for what a hashed key adds.
	maxChunked = 20<<20 + 64<<10
)

// chunkInfo describes a value that is kept in pieces: the text of the item
// KEY_00, "chunks:size:last:flags:checksum". The payload lies under KEY_01 and
// so on (two digits at least), all pieces of one size, the last one filled up
// with zeros.
type chunkInfo struct {
	// chunks counts KEY_00, too.
	chunks int
	// size of every piece and how much of the last one is payload, in bytes.
	size, last int
	// flags of the value.
	flags uint32
	// sum is the CRC-32 (IEEE) of the payload.
	sum uint32
}

// chunkedAs says how a payload is cut for a key, as the original cuts it.
func chunkedAs(key []byte, v raw, chunkSize int) chunkInfo {
	size := max(chunkSize-utf16Len(key)-chunkOverhead, minChunk)
	pieces := (len(v.value) + size - 1) / size
	last := len(v.value) % size
	if last == 0 {
		last = size
	}
	return chunkInfo{chunks: pieces + 1, size: size, last: last, flags: v.flags, sum: crc32.ChecksumIEEE(v.value)}
}

func (i chunkInfo) String() string {
	return fmt.Sprintf("%d:%d:%d:%d:%d", i.chunks, i.size, i.last, int32(i.flags), i.sum)
}

var errNotChunkInfo = errors.New("not a description of chunks")

// parseChunkInfo reads the value of KEY_00. What it accepts is bounded.
func parseChunkInfo(b []byte) (chunkInfo, error) {
	if len(b) > 80 {
		return chunkInfo{}, errNotChunkInfo
	}
	f := strings.Split(string(b), ":")
	if len(f) != 5 {
		return chunkInfo{}, errNotChunkInfo
	}
	var n [5]int64
	for i, text := range f {
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return chunkInfo{}, errNotChunkInfo
		}
		n[i] = v
	}
	i := chunkInfo{chunks: int(n[0]), size: int(n[1]), last: int(n[2]), flags: uint32(n[3]), sum: uint32(n[4])}
	if i.last == 0 {
		i.last = i.size // the original reads it so
	}
	switch {
	case n[0] < 2 || n[0] > maxChunked, n[1] < 1 || n[1] > maxItem, n[2] < 0 || n[2] > n[1],
		n[3] < -1<<31 || n[3] > 1<<31-1, n[4] < 0 || n[4] > 1<<32-1, (n[0]-1)*n[1] > maxChunked+n[1]:
		return chunkInfo{}, errNotChunkInfo
	}
	return i, nil
}

// length of the payload.
func (i chunkInfo) length() int { return (i.chunks-2)*i.size + i.last }

// piece returns the n-th piece of the payload, from 1, filled up with zeros.
func (i chunkInfo) piece(payload []byte, n int) []byte {
	from := (n - 1) * i.size
	to := from + i.size
	if to <= len(payload) {
		return payload[from:to]
	}
	out := make([]byte, i.size)
	copy(out, payload[from:])
	return out
}

// appendChunkKey appends the key of the n-th piece; 0 is the description.
func appendChunkKey(b, key []byte, n int) []byte {
	b = append(append(b, key...), '_')
	if n < 10 {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, int64(n), 10)
}

// chunkOf takes the key of a piece apart; ok is false for a key that is none.
func chunkOf(key []byte) (base []byte, n int, ok bool) {
	at := bytes.LastIndexByte(key, '_')
	digits := key[at+1:]
	if at < 1 || len(digits) < 2 || len(digits) > 6 || len(digits) > 2 && digits[0] == '0' {
		return nil, 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return nil, 0, false
		}
		n = 10*n + int(c-'0')
	}
	return key[:at], n, true
}

// assembly puts a payload together out of its pieces.
type assembly struct {
	info chunkInfo
	data []byte
	have int
}

func newAssembly(i chunkInfo) *assembly { return &assembly{info: i, data: make([]byte, i.length())} }

// put takes the n-th piece in, from 1.
func (a *assembly) put(n int, piece []byte) error {
	from := (n - 1) * a.info.size
	want := min(a.info.size, len(a.data)-from)
	if n < 1 || n >= a.info.chunks || len(piece) < want {
		return fmt.Errorf("piece %d has %d bytes, want %d", n, len(piece), want)
	}
	copy(a.data[from:], piece[:want])
	a.have++
	return nil
}

var errMixedChunks = errors.New("the pieces are not of one value")

// raw returns the whole if every piece is there and the checksum fits: pieces
// are written one by one, so a reader may see those of two values.
func (a *assembly) raw() (raw, error) {
	if a.have != a.info.chunks-1 || crc32.ChecksumIEEE(a.data) != a.info.sum {
		return raw{}, errMixedChunks
	}
	return raw{value: a.data, flags: a.info.flags}, nil
}
