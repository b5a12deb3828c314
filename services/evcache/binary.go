package evcache

import (
	"encoding/binary"
	"io"
	"math"
)

// The binary protocol (memcached's doc/protocol_binary.txt).
const (
	binaryRequest  = 0x80
	binaryResponse = 0x81
	binaryHeader   = 24
	// maxBinaryBody bounds a request's body; larger ones end the connection.
	maxBinaryBody = 16 << 20
	// noVivify as expiry of an increment asks to fail where there is no item.
	noVivify = math.MaxUint32
)

type opcode byte

const (
	opGet opcode = iota
	opSet
	opAdd
	opReplace
	opDelete
	opIncrement
	opDecrement
	opQuit
	opFlush
	opGetQ
	opNoop
	opVersion
	opGetK
	opGetKQ
	opAppend
	opPrepend
	opStat
	opSetQ
	opAddQ
	opReplaceQ
	opDeleteQ
	opIncrementQ
	opDecrementQ
	opQuitQ
	opFlushQ
	opAppendQ
	opPrependQ
	opTouch opcode = 0x1c
	opGAT   opcode = 0x1d
	opGATQ  opcode = 0x1e
	opGATK  opcode = 0x23
	opGATKQ opcode = 0x24
)

type binaryStatus uint16

const (
	binOK        binaryStatus = 0x00
	binNotFound  binaryStatus = 0x01
	binExists    binaryStatus = 0x02
	binTooLarge  binaryStatus = 0x03
	binInvalid   binaryStatus = 0x04
	binNotStored binaryStatus = 0x05
	binNotNumber binaryStatus = 0x06
	binUnknown   binaryStatus = 0x81
	binNoMemory  binaryStatus = 0x82
)

// binaryFrame is one request.
type binaryFrame struct {
	op                 opcode
	opaque             uint32
	cas                uint64
	extras, key, value []byte
}

// parseBinaryHeader checks a request's head and returns the lengths of its
// extras, key and body.
func parseBinaryHeader(h []byte) (f binaryFrame, extras, key, body int, ok bool) {
	if len(h) < binaryHeader || h[0] != binaryRequest || h[5] != 0 {
		return f, 0, 0, 0, false
	}
	key = int(binary.BigEndian.Uint16(h[2:]))
	extras = int(h[4])
	total := binary.BigEndian.Uint32(h[8:])
	if total > maxBinaryBody || extras+key > int(total) {
		return f, 0, 0, 0, false
	}
	f.op, f.opaque, f.cas = opcode(h[1]), binary.BigEndian.Uint32(h[12:]), binary.BigEndian.Uint64(h[16:])
	return f, extras, key, int(total), true
}

// binaryCommand answers one request of the binary protocol.
func (c *session) binaryCommand() error {
	var h [binaryHeader]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return err
	}
	f, extras, key, total, ok := parseBinaryHeader(h[:])
	if !ok {
		return errQuit // out of step: nothing after it can be trusted
	}
	if total > maxItem+maxKey+64 {
		if _, err := io.CopyN(io.Discard, c.r, int64(total)); err != nil {
			return err
		}
		return c.binFail(f, binTooLarge)
	}
	// Only the value is kept: it has memory of its own, the rest has scratch.
	c.head = append(c.head[:0], make([]byte, extras+key)...)
	if _, err := io.ReadFull(c.r, c.head); err != nil {
		return err
	}
	f.extras, f.key = c.head[:extras], c.head[extras:]
	size := int64(total - extras - key)
	if !c.s.cache.reserve(size) {
		if _, err := io.CopyN(io.Discard, c.r, size); err != nil {
			return err
		}
		return c.binFail(f, binNoMemory)
	}
	done := c.hasten(size)
	f.value = make([]byte, size)
	_, err := io.ReadFull(c.r, f.value)
	done()
	c.s.cache.release(size)
	if err != nil {
		return err
	}
	return c.binServe(f)
}

// loud returns the opcode that answers also when it has nothing to say, and
// whether op was its quiet form.
func (op opcode) loud() (opcode, bool) {
	switch op {
	case opGetQ:
		return opGet, true
	case opGetKQ:
		return opGetK, true
	case opGATQ:
		return opGAT, true
	case opGATKQ:
		return opGATK, true
	case opAppendQ, opPrependQ:
		return op - opAppendQ + opAppend, true
	}
	if op >= opSetQ && op <= opFlushQ {
		return op - opSetQ + opSet, true
	}
	return op, false
}

// binServe answers a request that has been read.
func (c *session) binServe(f binaryFrame) error {
	op, quiet := f.op.loud()
	switch op {
	case opGet, opGetK, opGAT, opGATK, opTouch:
		return c.binGet(f, op, quiet)
	case opSet, opAdd, opReplace, opAppend, opPrepend:
		return c.binStore(f, op, quiet)
	case opDelete:
		return c.binDelete(f, quiet)
	case opIncrement, opDecrement:
		return c.binArithmetic(f, op == opDecrement, quiet)
	case opQuit:
		if !quiet {
			_ = c.binReply(f, binOK, 0, nil, nil, nil) // the connection ends either way
		}
		return errQuit
	case opFlush:
		var delay int64
		if len(f.extras) == 4 {
			delay = int64(binary.BigEndian.Uint32(f.extras))
		}
		c.s.cache.flush(delay)
		if quiet {
			return nil
		}
		return c.binReply(f, binOK, 0, nil, nil, nil)
	case opNoop:
		return c.binReply(f, binOK, 0, nil, nil, nil)
	case opVersion:
		return c.binReply(f, binOK, 0, nil, nil, []byte(serverVersion))
	case opStat:
		return c.binStats(f)
	}
	return c.binFail(f, binUnknown)
}

// binReply writes a response. Errors of the writer show at the flush.
func (c *session) binReply(f binaryFrame, st binaryStatus, cas uint64, extras, key, value []byte) error {
	var h [binaryHeader]byte
	h[0], h[1] = binaryResponse, byte(f.op)
	binary.BigEndian.PutUint16(h[2:], uint16(len(key)))
	h[4] = byte(len(extras))
	binary.BigEndian.PutUint16(h[6:], uint16(st))
	binary.BigEndian.PutUint32(h[8:], uint32(len(extras)+len(key)+len(value)))
	binary.BigEndian.PutUint32(h[12:], f.opaque)
	binary.BigEndian.PutUint64(h[16:], cas)
	for _, b := range [][]byte{h[:], extras, key} {
		_, _ = c.w.Write(b)
	}
	_, err := c.w.Write(value)
	return err
}

func (c *session) binFail(f binaryFrame, st binaryStatus) error {
	text := map[binaryStatus]string{
		binNotFound: "Not found", binExists: "Data exists for key.", binTooLarge: "Too large.",
		binInvalid: "Invalid arguments", binNotStored: "Not stored.", binUnknown: "Unknown command",
		binNoMemory:  "Out of memory",
		binNotNumber: "Non-numeric server-side value for incr or decr",
	}[st]
	return c.binReply(f, st, 0, nil, nil, []byte(text))
}

// binOutcome answers what became of a change.
func (c *session) binOutcome(f binaryFrame, out outcome, cas uint64, value []byte, quiet bool) error {
	switch out {
	case stored:
		if quiet {
			return nil
		}
		return c.binReply(f, binOK, cas, nil, nil, value)
	case exists:
		return c.binFail(f, binExists)
	case notFound:
		return c.binFail(f, binNotFound)
	case tooLarge:
		return c.binFail(f, binTooLarge)
	case noMemory:
		return c.binFail(f, binNoMemory)
	case notNumber:
		return c.binFail(f, binNotNumber)
	}
	return c.binFail(f, binNotStored)
}

// binaryKey says whether the binary protocol can name k as a key: up to 250 bytes
// of any kind.
func binaryKey(k []byte) bool { return len(k) > 0 && len(k) <= maxKey }

func (c *session) binGet(f binaryFrame, op opcode, quiet bool) error {
	touches := op == opGAT || op == opGATK || op == opTouch
	want := 0
	if touches {
		want = 4
	}
	if !binaryKey(f.key) || len(f.extras) != want || len(f.value) != 0 {
		return c.binFail(f, binInvalid)
	}
	var v view
	ok := true
	if op != opTouch { // what a time in the past ends is answered a last time
		v, ok = c.s.cache.get(f.key)
		defer c.s.cache.unpin(v)
		defer c.hasten(int64(len(v.value)))()
	}
	if touches && ok {
		var t view
		t, ok = c.s.cache.touch(f.key, int64(binary.BigEndian.Uint32(f.extras)))
		if op == opTouch {
			v = t
		}
	}
	switch {
	case !ok && quiet:
		return nil
	case !ok && (op == opGetK || op == opGATK):
		return c.binReply(f, binNotFound, 0, nil, f.key, nil)
	case !ok:
		return c.binFail(f, binNotFound)
	}
	var flags [4]byte
	binary.BigEndian.PutUint32(flags[:], v.flags)
	if op == opTouch {
		return c.binReply(f, binOK, v.cas, flags[:], nil, nil)
	}
	var key []byte
	if op == opGetK || op == opGATK {
		key = f.key
	}
	return c.binReply(f, binOK, v.cas, flags[:], key, v.value)
}

func (c *session) binStore(f binaryFrame, op opcode, quiet bool) error {
	e := entry{key: f.key, value: f.value, cas: f.cas}
	want := 8
	switch op {
	case opAdd:
		e.mode = modeAdd
	case opReplace:
		e.mode = modeReplace
	case opAppend:
		e.mode, want = modeAppend, 0
	case opPrepend:
		e.mode, want = modePrepend, 0
	}
	if !binaryKey(f.key) || len(f.extras) != want {
		return c.binFail(f, binInvalid)
	}
	if want > 0 {
		e.flags, e.exptime = binary.BigEndian.Uint32(f.extras), int64(binary.BigEndian.Uint32(f.extras[4:]))
	}
	out, cas := c.s.cache.store(e)
	if out == notStored && e.mode == modeAdd {
		out = exists
	}
	if out == notStored && e.mode == modeReplace {
		out = notFound
	}
	return c.binOutcome(f, out, cas, nil, quiet)
}

func (c *session) binDelete(f binaryFrame, quiet bool) error {
	if !binaryKey(f.key) || len(f.extras) != 0 || len(f.value) != 0 {
		return c.binFail(f, binInvalid)
	}
	return c.binOutcome(f, c.s.cache.delete(f.key, f.cas), 0, nil, quiet)
}

func (c *session) binArithmetic(f binaryFrame, down, quiet bool) error {
	if !binaryKey(f.key) || len(f.extras) != 20 || len(f.value) != 0 {
		return c.binFail(f, binInvalid)
	}
	exp := binary.BigEndian.Uint32(f.extras[16:])
	out, n, v := c.s.cache.arithmetic(arith{
		key: f.key, delta: binary.BigEndian.Uint64(f.extras), down: down, cas: f.cas,
		initial: binary.BigEndian.Uint64(f.extras[8:]), exptime: int64(exp), vivify: exp != noVivify,
	})
	return c.binOutcome(f, out, v.cas, binary.BigEndian.AppendUint64(nil, n), quiet)
}

func (c *session) binStats(f binaryFrame) error {
	group := string(f.key)
	if group == "reset" {
		c.s.cache.resetFigures()
		return c.binReply(f, binOK, 0, nil, nil, nil)
	}
	lines, ok := c.s.statsOf(group)
	if !ok {
		return c.binFail(f, binNotFound)
	}
	for _, l := range lines {
		_ = c.binReply(f, binOK, 0, nil, []byte(l.name), []byte(l.value)) // errors show at the flush
	}
	return c.binReply(f, binOK, 0, nil, nil, nil)
}
