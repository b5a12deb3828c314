package embedded

import (
	"encoding/binary"
	"errors"
	"time"
)

var errCell = errors.New("malformed cell")

const flagTombstone = 1

// cell is what is stored under a cell key. Its layout: timestamp (8 bytes, big
// endian), expiry in Unix milliseconds (8), flags (1), length of the region
// (1), region, value.
type cell struct {
	hlc       uint64
	expires   int64 // Unix milliseconds; 0: never
	tombstone bool
	region    string
	value     []byte
}

const cellHeader = 8 + 8 + 1 + 1

func (c cell) encode() []byte {
	b := make([]byte, 0, cellHeader+len(c.region)+len(c.value))
	b = binary.BigEndian.AppendUint64(b, c.hlc)
	b = binary.BigEndian.AppendUint64(b, uint64(c.expires))
	var flags byte
	if c.tombstone {
		flags = flagTombstone
	}
	b = append(b, flags, byte(len(c.region)))
	b = append(b, c.region...)
	return append(b, c.value...)
}

// decodeCell reads a cell; its value aliases b.
func decodeCell(b []byte) (cell, error) {
	if len(b) < cellHeader {
		return cell{}, errCell
	}
	n := cellHeader + int(b[17])
	if len(b) < n || b[16]&^flagTombstone != 0 {
		return cell{}, errCell
	}
	return cell{
		hlc: binary.BigEndian.Uint64(b), expires: int64(binary.BigEndian.Uint64(b[8:])),
		tombstone: b[16] == flagTombstone, region: string(b[cellHeader:n]), value: b[n:],
	}, nil
}

// beats says whether c replaces o: the later timestamp wins, and of two equal
// ones the greater region, so that every region decides alike.
func (c cell) beats(o cell) bool {
	if c.hlc != o.hlc {
		return c.hlc > o.hlc
	}
	return c.region > o.region
}

// visible says whether readers see the cell at a time.
func (c cell) visible(now time.Time) bool { return !c.tombstone && !c.expired(now) }

func (c cell) expired(now time.Time) bool { return c.expires != 0 && c.expires <= now.UnixMilli() }
