package evcache

import (
	"bytes"
	"encoding/base64"
	"io"
	"math"
	"strconv"
	"time"
)

// metaFlags are the flags of a meta command (memcached's doc/protocol.txt,
// "Meta Commands"), as far as this server offers them.
type metaFlags struct {
	list             [][]byte // every flag with its token, in order
	quiet            bool
	base64           bool
	mode             byte
	ttl              int64
	hasTTL           bool
	flags            uint32
	cas              uint64
	delta            uint64
	initial, autoTTL uint64
	vivify           bool
}

// parseMetaFlags reads the flags of a meta command.
func parseMetaFlags(a [][]byte) (metaFlags, bool) {
	m := metaFlags{list: a, delta: 1}
	for _, f := range a {
		token := string(f[1:])
		var err error
		switch f[0] {
		case 'q':
			m.quiet = true
		case 'b':
			m.base64 = true
		case 'M':
			if len(token) != 1 {
				return m, false
			}
			m.mode = token[0]
		case 'T':
			m.ttl, err = strconv.ParseInt(token, 10, 64)
			m.hasTTL = true
		case 'F':
			var n uint64
			n, err = strconv.ParseUint(token, 10, 32)
			m.flags = uint32(n)
		case 'C':
			if m.cas, err = strconv.ParseUint(token, 10, 64); m.cas == 0 {
				m.cas = math.MaxUint64 // 0 is no version: it never matches
			}
		case 'D':
			m.delta, err = strconv.ParseUint(token, 10, 64)
		case 'J':
			m.initial, err = strconv.ParseUint(token, 10, 64)
		case 'N':
			m.autoTTL, err = strconv.ParseUint(token, 10, 31)
			m.vivify = true
		case 'v', 'k', 'c', 't', 's', 'f', 'O', 'h', 'l', 'I':
		default:
			return m, false
		}
		if err != nil {
			return m, false
		}
	}
	return m, true
}

// metaKey returns the key of a meta command, decoded if it is in base64.
func metaKey(raw []byte, m metaFlags) ([]byte, bool) {
	if !m.base64 {
		return raw, validKey(raw)
	}
	k := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(k, raw)
	return k[:n], err == nil && n > 0 && n <= maxKey
}

// metaCommand answers mg, ms, md, ma, mn and me.
func (c *session) metaCommand(name string, a [][]byte) error {
	if name == "mn" {
		return c.say("MN")
	}
	if len(a) == 0 {
		return c.say(badFormat)
	}
	if name == "me" {
		return c.metaDebug(a[0])
	}
	flags := a[1:]
	if name == "ms" {
		return c.metaSet(a)
	}
	m, ok := parseMetaFlags(flags)
	if !ok {
		return c.say("CLIENT_ERROR invalid flag")
	}
	key, ok := metaKey(a[0], m)
	if !ok {
		return c.say(badFormat)
	}
	switch name {
	case "mg":
		return c.metaGet(a[0], key, m)
	case "md":
		return c.metaDelete(a[0], key, m)
	}
	return c.metaArithmetic(a[0], key, m)
}

// echo appends the flags that a reply repeats or fills in.
func (m metaFlags) echo(b, rawKey []byte, v view, now time.Time) []byte {
	for _, f := range m.list {
		switch f[0] {
		case 'k':
			b = append(append(b, " k"...), rawKey...)
		case 'O':
			b = append(append(b, ' '), f...)
		case 'b':
			b = append(b, " b"...)
		case 'c':
			b = strconv.AppendUint(append(b, " c"...), v.cas, 10)
		case 'f':
			b = strconv.AppendUint(append(b, " f"...), uint64(v.flags), 10)
		case 's':
			b = strconv.AppendInt(append(b, " s"...), int64(len(v.value)), 10)
		case 't':
			b = strconv.AppendInt(append(b, " t"...), remaining(v.expires, now), 10)
		}
	}
	return b
}

// remaining returns the seconds until an expiry; -1 for never.
func remaining(expires int64, now time.Time) int64 {
	if expires == 0 {
		return -1
	}
	return max(0, (expires-now.UnixNano()+int64(time.Second)-1)/int64(time.Second))
}

func (m metaFlags) wants(flag byte) bool {
	for _, f := range m.list {
		if f[0] == flag {
			return true
		}
	}
	return false
}

func (c *session) metaGet(raw, key []byte, m metaFlags) error {
	v, ok := c.s.cache.get(key)
	defer c.s.cache.unpin(v)
	if ok && m.hasTTL {
		t, _ := c.s.cache.touch(key, m.ttl)
		v.expires = t.expires
	}
	if !ok {
		if m.quiet {
			return nil
		}
		return c.say("EN")
	}
	if !m.wants('v') {
		return c.say(string(m.echo([]byte("HD"), raw, v, c.s.now())))
	}
	head := strconv.AppendInt([]byte("VA "), int64(len(v.value)), 10)
	_ = c.say(string(m.echo(head, raw, v, c.s.now()))) // errors show at the flush
	done := c.hasten(int64(len(v.value)))
	_, _ = c.w.Write(v.value)
	done()
	return c.say("")
}

func (c *session) metaSet(a [][]byte) error {
	if len(a) < 2 {
		return c.say(badFormat)
	}
	size, err := strconv.ParseInt(string(a[1]), 10, 64)
	if err != nil || size < 0 || size > math.MaxInt32 {
		return c.say("CLIENT_ERROR bad data chunk")
	}
	// The line's buffer is overwritten by the data block.
	words := make([][]byte, len(a))
	for i, w := range a {
		words[i] = bytes.Clone(w)
	}
	m, ok := parseMetaFlags(words[2:])
	key, keyOK := metaKey(words[0], m)
	if size > maxItem || !ok || !keyOK {
		if _, err := io.CopyN(io.Discard, c.r, size+2); err != nil {
			return err
		}
		if size > maxItem {
			return c.say("SERVER_ERROR object too large for cache")
		}
		return c.say(badFormat)
	}
	if !c.s.cache.reserve(size) {
		if _, err := io.CopyN(io.Discard, c.r, size+2); err != nil {
			return err
		}
		return c.say(noRoom)
	}
	value, err := c.readBlock(size)
	c.s.cache.release(size)
	if err != nil {
		return c.badBlock(err)
	}
	mode, ok := map[byte]storeMode{0: modeSet, 'S': modeSet, 's': modeSet, 'E': modeAdd, 'e': modeAdd, 'A': modeAppend, 'a': modeAppend,
		'P': modePrepend, 'p': modePrepend, 'R': modeReplace, 'r': modeReplace}[m.mode]
	if !ok {
		return c.say("CLIENT_ERROR invalid mode for ms")
	}
	out, cas := c.s.cache.store(entry{mode: mode, key: key, value: value, flags: m.flags, exptime: m.ttl, cas: m.cas})
	return c.metaOutcome(out, words[0], m, view{value: value, flags: m.flags, cas: cas})
}

// metaOutcome answers what became of a change; quiet hides success.
func (c *session) metaOutcome(out outcome, raw []byte, m metaFlags, v view) error {
	code := "NS"
	switch out {
	case stored:
		if m.quiet {
			return nil
		}
		code = "HD"
	case exists:
		code = "EX"
	case notFound:
		code = "NF"
	case tooLarge:
		return c.say("SERVER_ERROR object too large for cache")
	case noMemory:
		return c.say(noRoom)
	case notNumber:
		return c.say("CLIENT_ERROR cannot increment or decrement non-numeric value")
	}
	return c.say(string(m.echo([]byte(code), raw, v, c.s.now())))
}

func (c *session) metaDelete(raw, key []byte, m metaFlags) error {
	out := c.s.cache.delete(key, m.cas)
	if out == notFound && m.quiet {
		return nil
	}
	return c.metaOutcome(out, raw, m, view{})
}

func (c *session) metaArithmetic(raw, key []byte, m metaFlags) error {
	var down bool
	switch m.mode {
	case 0, 'I', 'i', '+':
	case 'D', 'd', '-':
		down = true
	default:
		return c.say("CLIENT_ERROR invalid mode for ma")
	}
	out, n, cas := c.s.cache.arithmetic(arith{key: key, delta: m.delta, down: down, cas: m.cas, vivify: m.vivify, initial: m.initial, exptime: int64(m.autoTTL)})
	if out == stored && m.wants('v') && !m.quiet {
		value := strconv.AppendUint(nil, n, 10)
		v := view{value: value, cas: cas}
		_ = c.say(string(m.echo(strconv.AppendInt([]byte("VA "), int64(len(value)), 10), raw, v, c.s.now()))) // errors show at the flush
		return c.say(string(value))
	}
	return c.metaOutcome(out, raw, m, view{cas: cas})
}

// metaDebug tells about an item without counting as a use of it.
func (c *session) metaDebug(key []byte) error {
	if !validKey(key) {
		return c.say(badFormat)
	}
	d, ok := c.s.cache.debug(key)
	if !ok {
		return c.say("EN")
	}
	return c.say("ME " + string(key) + " " + d)
}
