package cassandra

import (
	"encoding/binary"
	"encoding/hex"
	"net"
)

// row is one row of an answer by column name; null columns are missing.
type row map[string]value

// value is a column's serialised value.
type value []byte

func (v value) text() string { return string(v) }

// uuid in its usual form, or "".
func (v value) uuid() string {
	if len(v) != 16 {
		return ""
	}
	h := hex.EncodeToString(v)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ip is an inet column, or nil.
func (v value) ip() net.IP {
	if len(v) != net.IPv4len && len(v) != net.IPv6len {
		return nil
	}
	return net.IP(v)
}

// number is a column of type int or bigint, or 0.
func (v value) number() int64 {
	switch len(v) {
	case 4:
		return int64(int32(binary.BigEndian.Uint32(v)))
	case 8:
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

// reader takes an answer apart; past its end it returns zeros and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) short() int {
	if b := r.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int() int {
	if b := r.take(4); b != nil {
		return int(int32(binary.BigEndian.Uint32(b)))
	}
	return 0
}

func (r *reader) string() string { return string(r.take(r.short())) }

// bytes is a value after its length; nil is null.
func (r *reader) bytes() []byte {
	n := r.int()
	if n < 0 {
		return nil
	}
	return r.take(n)
}

func decodeError(b []byte) error {
	r := reader{b: b}
	e := &wireError{code: r.int(), msg: r.string()}
	if r.bad {
		return errWire
	}
	return e
}

// decodeResult reads the rows of a result; other kinds of result have none.
func decodeResult(b []byte) ([]row, error) {
	r := reader{b: b}
	if r.int() != resultRows {
		if r.bad {
			return nil, errWire
		}
		return nil, nil
	}
	columns := r.columns()
	var rows []row
	for n := r.int(); n > 0 && !r.bad; n-- {
		one := make(row, len(columns))
		for _, name := range columns {
			if v := r.bytes(); v != nil {
				one[name] = v
			}
		}
		rows = append(rows, one)
	}
	if r.bad || len(columns) == 0 {
		return nil, errWire
	}
	return rows, nil
}

// columns reads the metadata in front of rows.
func (r *reader) columns() []string {
	flags, n := r.int(), r.int()
	if flags&flagNoMetadata != 0 || n <= 0 {
		r.bad = true
		return nil
	}
	if flags&flagMorePages != 0 {
		r.bytes()
	}
	if flags&flagGlobalTable != 0 {
		r.string()
		r.string()
	}
	var names []string
	for ; n > 0 && !r.bad; n-- {
		if flags&flagGlobalTable == 0 {
			r.string()
			r.string()
		}
		names = append(names, r.string())
		r.skipType()
	}
	return names
}

// skipType passes over a column's type. Only plain types are asked for: one
// that has further types in it makes the answer malformed.
func (r *reader) skipType() {
	const custom, firstNested = 0x0000, 0x0020
	switch t := r.short(); {
	case t == custom:
		r.string()
	case t >= firstNested:
		r.bad = true
	}
}
