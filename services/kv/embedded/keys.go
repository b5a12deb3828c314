package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// The first byte of a key says what it holds.
const (
	kindCell = 'd' // namespace, partition, sort → cell
	kindLog  = 'l' // sequence → timestamp and cell key
	kindPeer = 'p' // region → peer record
	kindMeta = 'm' // name → value
)

var errKey = errors.New("malformed key")

// A namespace and a partition end with 0x00 0x01; a zero byte inside them is
// written 0x00 0xff. So keys sort by namespace, then partition, then sort key,
// whatever bytes these hold, and no partition is a prefix of another.
const (
	escape     = 0x00
	terminator = 0x01
	escapedNul = 0xff
)

func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, s[i])
		if s[i] == escape {
			b = append(b, escapedNul)
		}
	}
	return append(b, escape, terminator)
}

// partitionKey is the common prefix of the keys of a partition's cells.
func partitionKey(namespace, partition string) []byte {
	b := make([]byte, 0, len(namespace)+len(partition)+32)
	b = append(b, kindCell)
	b = appendEscaped(b, namespace)
	return appendEscaped(b, partition)
}

// partitionEnd is the first key after those of a partition.
func partitionEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	end[len(end)-1] = terminator + 1
	return end
}

func cellKey(namespace, partition, sort string) []byte {
	return append(partitionKey(namespace, partition), sort...)
}

// splitKey is the inverse of cellKey.
func splitKey(key []byte) (namespace, partition, sort string, err error) {
	if len(key) == 0 || key[0] != kindCell {
		return "", "", "", errKey
	}
	namespace, rest, err := cutEscaped(key[1:])
	if err != nil {
		return "", "", "", err
	}
	partition, rest, err = cutEscaped(rest)
	return namespace, partition, string(rest), err
}

func cutEscaped(b []byte) (string, []byte, error) {
	var out []byte
	for i := 0; i < len(b); i++ {
		if b[i] != escape {
			out = append(out, b[i])
			continue
		}
		if i++; i == len(b) {
			break
		}
		switch b[i] {
		case terminator:
			return string(out), b[i+1:], nil
		case escapedNul:
			out = append(out, escape)
		default:
			return "", nil, errKey
		}
	}
	return "", nil, errKey
}

func logKey(seq uint64) []byte { return binary.BigEndian.AppendUint64([]byte{kindLog}, seq) }

func logSeq(key []byte) (uint64, error) {
	if len(key) != 9 || key[0] != kindLog {
		return 0, errKey
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

func peerKey(region string) []byte { return append([]byte{kindPeer}, region...) }
func metaKey(name string) []byte   { return append([]byte{kindMeta}, name...) }

// kindRange spans every key of one kind.
func kindRange(kind byte) (lower, upper []byte) { return []byte{kind}, []byte{kind + 1} }
