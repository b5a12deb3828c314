package evcache

import (
	"bytes"
	"errors"
	"io"
	"math"
)

// storeLine is the head of a storage command.
type storeLine struct {
	entry
	size    int64
	noreply bool
}

// storeWords is how many words a storage command has beside its name and
// "noreply".
func storeWords(cas bool) int {
	if cas {
		return 5
	}
	return 4
}

// parseStore reads "KEY FLAGS EXPTIME BYTES [CAS] [noreply]", whose number of
// words is right.
func parseStore(mode storeMode, cas bool, a [][]byte) (storeLine, bool) {
	l := storeLine{noreply: quiet(a)}
	if !lineKey(a[0]) {
		return l, false
	}
	flags, ok1 := unsigned(a[1])
	exp, ok2 := signed(a[2])
	size, ok3 := valueSize(a[3])
	ok := ok1 && ok2 && ok3
	if ok && cas {
		l.cas, ok = unsigned(a[4])
	}
	if !ok {
		return l, false
	}
	l.mode, l.flags, l.exptime, l.size = mode, uint32(flags), exp, size
	// The line's buffer is overwritten by the data block.
	l.key = bytes.Clone(a[0])
	return l, true
}

// valueSize reads the length of a value; it has a line end behind it, and both
// are counted in 32 bits.
func valueSize(word []byte) (int64, bool) {
	n, ok := signed(word)
	return n, ok && n >= 0 && n <= math.MaxInt32-2
}

func (c *session) textStore(mode storeMode, cas bool, a [][]byte) error {
	if n := storeWords(cas); len(a) != n && len(a) != n+1 {
		return c.say("ERROR")
	}
	l, ok := parseStore(mode, cas, a)
	if !ok {
		return c.reply(a, badFormat)
	}
	if l.size > maxItem {
		return c.refuseLarge(l, "SERVER_ERROR object too large for cache")
	}
	if !c.s.cache.reserve(l.size) {
		return c.refuseLarge(l, noRoom)
	}
	var err error
	l.value, err = c.readBlock(l.size)
	c.s.cache.release(l.size)
	if err != nil {
		return c.badBlock(err, l.noreply)
	}
	if cas && l.cas == 0 {
		// Versions start at 1, and the cache reads 0 as "unconditional".
		l.cas = math.MaxUint64
	}
	out, _ := c.s.cache.store(l.entry)
	if l.noreply {
		return nil
	}
	switch out {
	case stored:
		return c.say("STORED")
	case exists:
		return c.say("EXISTS")
	case notFound:
		return c.say("NOT_FOUND")
	case tooLarge:
		return c.say("SERVER_ERROR object too large for cache")
	case noMemory:
		return c.say(noRoom)
	}
	return c.say("NOT_STORED")
}

// noRoom refuses a value while too many are on their way.
const noRoom = "SERVER_ERROR out of memory storing object"

// refuseLarge skips a value that is not taken and forgets the old one, which a
// reader must not take for it.
func (c *session) refuseLarge(l storeLine, why string) error {
	if _, err := io.CopyN(io.Discard, c.r, l.size+2); err != nil {
		return err
	}
	if l.mode == modeSet && l.cas == 0 {
		c.s.cache.delete(l.key, 0)
	}
	if l.noreply {
		return nil
	}
	return c.say(why)
}

var errBadBlock = errors.New("bad data chunk")

// readBlock reads a data block and its line end into memory of its own.
func (c *session) readBlock(size int64) ([]byte, error) {
	defer c.hasten(size)()
	v := make([]byte, size+2)
	if _, err := io.ReadFull(c.r, v); err != nil {
		return nil, err
	}
	if v[size] != '\r' || v[size+1] != '\n' {
		return nil, errBadBlock
	}
	return v[:size:size], nil
}

// badBlock answers a data block whose length is wrong. As with memcached the
// stream goes on behind the bytes that were announced: what is out of step
// answers as the commands that it is not.
func (c *session) badBlock(err error, noreply bool) error {
	switch {
	case !errors.Is(err, errBadBlock):
		return err
	case noreply:
		return nil
	}
	return c.say("CLIENT_ERROR bad data chunk")
}
