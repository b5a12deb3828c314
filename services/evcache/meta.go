package evcache

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"io"
	"math"
	"strconv"
	"strings"
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
	hasCAS           bool
	delta, initial   uint64
	autoTTL, recache int64
	vivify           bool
	invalidate       bool
}

const (
	badFlag   = "CLIENT_ERROR invalid flag"
	badToken  = "CLIENT_ERROR bad token in command line format"
	badKey    = "CLIENT_ERROR error decoding key"
	badOpaque = "CLIENT_ERROR opaque token too long"
	badEither = "CLIENT_ERROR invalid or duplicate flag" // all else that md and ma say
)

// maxOpaque bounds an opaque flag with its letter, as memcached does.
const maxOpaque = 32

// parseMetaFlags reads the flags of a meta command; what is wrong with them,
// or "".
func parseMetaFlags(a [][]byte) (metaFlags, string) {
	m := metaFlags{list: a, delta: 1}
	var seen [128]bool
	// An unknown flag, or one that comes twice, is told before a bad token, and
	// of these the last.
	bad := ""
	for _, f := range a {
		if f[0] >= 0x80 {
			return m, badFlag
		}
		if seen[f[0]] {
			return m, "CLIENT_ERROR duplicate flag"
		}
		seen[f[0]] = true
		switch why := m.take(f[0], f[1:]); why {
		case "":
		case badFlag:
			return m, why
		case badFormat: // of F, which has no words of its own
			bad = cmp.Or(bad, why)
		default:
			bad = why
		}
	}
	return m, bad
}

// take reads one flag and its token.
func (m *metaFlags) take(flag byte, token []byte) string {
	ok, bad := true, badToken
	switch flag {
	case 'q':
		m.quiet = true
	case 'b':
		m.base64 = true
	case 'M':
		if len(token) != 1 {
			return "CLIENT_ERROR incorrect length for M token"
		}
		m.mode = token[0]
	case 'T':
		m.ttl, ok = signed(token)
		m.hasTTL = true
	case 'F':
		var n uint64
		n, ok = unsigned(token)
		m.flags, bad = uint32(n), badFormat
	case 'C':
		m.cas, ok = unsigned(token)
		m.hasCAS = true
	case 'D':
		m.delta, ok = unsigned(token)
		bad = "CLIENT_ERROR invalid numeric delta value"
	case 'J':
		m.initial, ok = unsigned(token)
		bad = "CLIENT_ERROR invalid numeric initial value"
	case 'N':
		m.autoTTL, ok = signed(token)
		m.vivify = true
	case 'R':
		m.recache, ok = signed(token)
	case 'I':
		m.invalidate = true
	case 'O':
		if len(token)+1 > maxOpaque {
			return badOpaque
		}
	case 'v', 'k', 'c', 't', 's', 'f', 'h', 'l':
	default:
		return badFlag
	}
	if !ok {
		return bad
	}
	return ""
}

// version is the item's that a command is about: 0 for any. No item has version
// 0, and so one that asks for it never finds it.
func (m metaFlags) version() uint64 {
	if m.hasCAS && m.cas == 0 {
		return math.MaxUint64
	}
	return m.cas
}

// metaKey returns the key of a meta command, decoded if it is in base64; what
// is wrong with it, or "".
func metaKey(raw []byte, m metaFlags) ([]byte, string) {
	if !m.base64 {
		if !lineKey(raw) {
			return nil, badFormat
		}
		return raw, ""
	}
	k := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(k, raw)
	if err != nil || n == 0 {
		return nil, badKey
	}
	return k[:n], ""
}

// metaCommand answers mg, ms, md, ma, mn and me.
func (c *session) metaCommand(name string, a [][]byte) error {
	if name == "mn" {
		return c.say("MN")
	}
	switch {
	case len(a) == 0 && name == "me":
		return c.say(badFormat)
	case len(a) == 0:
		return c.say("ERROR")
	case len(a[0]) > maxKey: // in base64 too
		return c.say(badFormat)
	case name == "me":
		return c.metaDebug(a)
	case name == "ms":
		return c.metaSet(a)
	}
	m, why := parseMetaFlags(a[1:])
	key := a[0]
	if why == "" {
		key, why = metaKey(a[0], m)
	}
	switch {
	case why == "":
	case name == "mg", why == badOpaque, !m.base64 && !lineKey(a[0]):
		return c.say(why)
	default:
		return c.say(badEither)
	}
	switch name {
	case "mg":
		return c.metaGet(a[0], key, m)
	case "md":
		return c.metaDelete(a[0], key, m)
	}
	return c.metaArithmetic(a[0], key, m)
}

// What the answers of the commands repeat or fill in, of what is asked for.
const (
	echoGet    = "kOcfsthl"
	echoSet    = "kOc"
	echoDelete = "kO"
	echoMath   = "kOct"
	echoMiss   = "kO"
)

// echo appends the flags that a reply repeats or fills in, in the order of the
// request; that the key is in base64 comes last.
func (m metaFlags) echo(b, rawKey []byte, which string, v view, now time.Time) []byte {
	for _, f := range m.list {
		if strings.IndexByte(which, f[0]) < 0 {
			continue
		}
		switch f[0] {
		case 'k':
			b = append(append(b, " k"...), rawKey...)
		case 'O':
			b = append(append(b, ' '), f...)
		case 'h', 'l':
			b = v.used(b, f[0])
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
	if m.base64 && m.wants('k') {
		b = append(b, " b"...)
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
	v, ok := c.s.cache.ask(key, ask{vivify: m.vivify, ttl: m.autoTTL, recache: m.recache})
	defer c.s.cache.unpin(v)
	if ok && m.hasTTL {
		t, _ := c.s.cache.touch(key, m.ttl)
		v.expires = t.expires
	}
	if !ok {
		if m.quiet {
			return nil
		}
		return c.say(string(m.echo([]byte("EN"), raw, echoMiss, v, c.s.now())))
	}
	if !m.wants('v') {
		return c.say(string(m.echo([]byte("HD"), raw, echoGet, v, c.s.now())) + v.marks)
	}
	head := strconv.AppendInt([]byte("VA "), int64(len(v.value)), 10)
	_ = c.say(string(m.echo(head, raw, echoGet, v, c.s.now())) + v.marks) // errors show at the flush
	done := c.hasten(int64(len(v.value)))
	_, _ = c.w.Write(v.value)
	done()
	return c.say("")
}

func (c *session) metaSet(a [][]byte) error {
	if len(a) < 2 {
		return c.say(badFormat)
	}
	size, ok := valueSize(a[1])
	if !ok {
		return c.say(badFormat)
	}
	// The line's buffer is overwritten by the data block.
	words := make([][]byte, len(a))
	for i, w := range a {
		words[i] = bytes.Clone(w)
	}
	m, why := parseMetaFlags(words[2:])
	key := words[0]
	if why == "" {
		key, why = metaKey(words[0], m)
	}
	mode, known := metaMode(m.mode)
	if why == "" && !known {
		why = "CLIENT_ERROR invalid mode for ms M token"
	}
	if why == "" && size > maxItem {
		why = "SERVER_ERROR object too large for cache"
		c.s.cache.delete(key, 0) // in every mode: what is there must not pass for it
	}
	if why != "" {
		if _, err := io.CopyN(io.Discard, c.r, size+2); err != nil {
			return err
		}
		return c.say(why)
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
		return c.badBlock(err, false)
	}
	out, cas := c.s.cache.store(entry{mode: mode, key: key, value: value, flags: m.flags, exptime: m.ttl, cas: m.version(), invalidate: m.invalidate})
	return c.metaOutcome(out, words[0], m, echoSet, view{cas: cas})
}

// metaMode is what an M token of ms asks for.
func metaMode(token byte) (storeMode, bool) {
	switch token {
	case 0, 'S':
		return modeSet, true
	case 'E':
		return modeAdd, true
	case 'A':
		return modeAppend, true
	case 'P':
		return modePrepend, true
	case 'R':
		return modeReplace, true
	}
	return modeSet, false
}

// metaOutcome answers what became of a change; quiet hides success.
func (c *session) metaOutcome(out outcome, raw []byte, m metaFlags, which string, v view) error {
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
	return c.say(string(m.echo([]byte(code), raw, which, v, c.s.now())))
}

func (c *session) metaDelete(raw, key []byte, m metaFlags) error {
	m.cas = m.version()
	var out outcome
	if m.invalidate {
		out = c.s.cache.invalidate(key, m)
	} else {
		out = c.s.cache.delete(key, m.cas)
	}
	if out == notFound && m.quiet {
		return nil
	}
	return c.metaOutcome(out, raw, m, echoDelete, view{})
}

func (c *session) metaArithmetic(raw, key []byte, m metaFlags) error {
	var down bool
	switch m.mode {
	case 0, 'I', '+':
	case 'D', '-':
		down = true
	default:
		return c.say("CLIENT_ERROR invalid mode for ma M token")
	}
	out, n, v := c.s.cache.arithmetic(arith{key: key, delta: m.delta, down: down, cas: m.cas, vivify: m.vivify, initial: m.initial, exptime: m.autoTTL, ttl: m.ttl, hasTTL: m.hasTTL})
	if out == stored && m.wants('v') && !m.quiet {
		value := strconv.AppendUint(nil, n, 10)
		_ = c.say(string(m.echo(strconv.AppendInt([]byte("VA "), int64(len(value)), 10), raw, echoMath, v, c.s.now()))) // errors show at the flush
		return c.say(string(value))
	}
	which := echoMath
	if out != stored {
		which = echoMiss
	}
	return c.metaOutcome(out, raw, m, which, v)
}

// metaDebug tells about an item without counting as a use of it.
func (c *session) metaDebug(a [][]byte) error {
	raw := a[0]
	key, why := metaKey(raw, metaFlags{base64: len(a) > 1 && string(a[1]) == "b"})
	if why != "" {
		return c.say(badFormat)
	}
	d, ok := c.s.cache.debug(key)
	if !ok {
		return c.say("EN")
	}
	return c.say("ME " + string(key) + " " + d)
}
