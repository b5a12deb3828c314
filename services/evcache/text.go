package evcache

import (
	"bufio"
	"bytes"
	"errors"
	"strconv"
)

const (
	// maxLine bounds a command line: a get of some 250 keys.
	maxLine = 64 << 10
	// maxWords bounds the words of a line.
	maxWords = 1024
)

// textCommand answers one command of the text protocol (memcached's
// doc/protocol.txt).
func (c *session) textCommand() error {
	line, err := c.readLine()
	if err != nil {
		return err
	}
	c.args = split(c.args[:0], line)
	if len(c.args) == 0 {
		return c.say("ERROR")
	}
	a := c.args[1:]
	switch string(c.args[0]) {
	case "get":
		return c.textGet(a, false)
	case "gets":
		return c.textGet(a, true)
	case "gat":
		return c.textGetTouch(a, false)
	case "gats":
		return c.textGetTouch(a, true)
	case "set":
		return c.textStore(modeSet, false, a)
	case "add":
		return c.textStore(modeAdd, false, a)
	case "replace":
		return c.textStore(modeReplace, false, a)
	case "append":
		return c.textStore(modeAppend, false, a)
	case "prepend":
		return c.textStore(modePrepend, false, a)
	case "cas":
		return c.textStore(modeSet, true, a)
	case "incr":
		return c.textArithmetic(a, false)
	case "decr":
		return c.textArithmetic(a, true)
	case "delete":
		return c.textDelete(a)
	case "touch":
		return c.textTouch(a)
	case "mg", "ms", "md", "ma", "mn", "me":
		return c.metaCommand(string(c.args[0]), a)
	}
	return c.textAdmin(string(c.args[0]), a)
}

// textAdmin answers the commands that are not about an item.
func (c *session) textAdmin(name string, a [][]byte) error {
	switch name {
	case "flush_all":
		return c.textFlush(a)
	case "version":
		return c.say("VERSION " + serverVersion)
	case "verbosity":
		return c.textVerbosity(a)
	case "shutdown":
		return c.say("ERROR: shutdown not enabled")
	case "stats":
		return c.textStats(a)
	case "lru_crawler":
		return c.textCrawl(a)
	case "quit":
		return errQuit
	}
	if len(a) > 0 && bytes.HasPrefix(a[len(a)-1], []byte("HTTP/")) {
		// A web page has a browser speak to this port; what follows may look
		// like commands. memcached ends such a connection too.
		return errQuit
	}
	return c.say("ERROR")
}

// say writes one line. Errors of the writer show when it is flushed.
func (c *session) say(line string) error {
	_, _ = c.w.WriteString(line)
	_, err := c.w.WriteString("\r\n")
	return err
}

// readLine returns a line without its end; it is valid until the next read.
func (c *session) readLine() ([]byte, error) {
	b, err := c.r.ReadSlice('\n')
	if err == nil {
		return bytes.TrimRight(b, "\r\n"), nil
	}
	c.line = c.line[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		if c.line = append(c.line, b...); len(c.line) > maxLine {
			_ = c.say("CLIENT_ERROR line too long")
			return nil, errQuit
		}
		b, err = c.r.ReadSlice('\n')
	}
	if err != nil {
		return nil, err
	}
	c.line = append(c.line, b...)
	return bytes.TrimRight(c.line, "\r\n"), nil
}

// split appends the words of a line, which alias it.
func split(words [][]byte, line []byte) [][]byte {
	for len(line) > 0 && len(words) < maxWords {
		i := bytes.IndexByte(line, ' ')
		switch i {
		case -1:
			return append(words, line)
		case 0:
		default:
			words = append(words, line[:i])
		}
		line = line[i+1:]
	}
	return words
}

// quiet says whether the last word asks for no answer.
func quiet(a [][]byte) bool {
	return len(a) > 0 && string(a[len(a)-1]) == "noreply"
}

// validKey says whether k is a key: up to 250 bytes without blanks and
// control characters.
func validKey(k []byte) bool {
	if len(k) == 0 || len(k) > maxKey {
		return false
	}
	for _, b := range k {
		if b <= ' ' || b == 0x7f {
			return false
		}
	}
	return true
}

const badFormat = "CLIENT_ERROR bad command line format"

func (c *session) textGet(keys [][]byte, withCAS bool) error {
	if len(keys) == 0 {
		return c.say("ERROR")
	}
	for _, k := range keys {
		if !validKey(k) {
			return c.say(badFormat)
		}
	}
	for _, k := range keys {
		if v, ok := c.s.cache.get(k); ok {
			c.writeValue(k, v, withCAS)
			c.s.cache.unpin(v)
		}
	}
	return c.say("END")
}

func (c *session) textGetTouch(a [][]byte, withCAS bool) error {
	if len(a) < 2 {
		return c.say("ERROR")
	}
	exp, err := strconv.ParseInt(string(a[0]), 10, 64)
	if err != nil {
		return c.say("CLIENT_ERROR invalid exptime argument")
	}
	for _, k := range a[1:] {
		if !validKey(k) {
			return c.say(badFormat)
		}
	}
	for _, k := range a[1:] {
		if v, ok := c.s.cache.get(k); ok {
			c.s.cache.touch(k, exp)
			c.writeValue(k, v, withCAS)
			c.s.cache.unpin(v)
		}
	}
	return c.say("END")
}

// writeValue writes a VALUE block. Errors show at the next flush.
func (c *session) writeValue(key []byte, v view, withCAS bool) {
	defer c.hasten(int64(len(v.value)))()
	var num [20]byte
	_, _ = c.w.WriteString("VALUE ")
	_, _ = c.w.Write(key)
	_ = c.w.WriteByte(' ')
	_, _ = c.w.Write(strconv.AppendUint(num[:0], uint64(v.flags), 10))
	_ = c.w.WriteByte(' ')
	_, _ = c.w.Write(strconv.AppendInt(num[:0], int64(len(v.value)), 10))
	if withCAS {
		_ = c.w.WriteByte(' ')
		_, _ = c.w.Write(strconv.AppendUint(num[:0], v.cas, 10))
	}
	_, _ = c.w.WriteString("\r\n")
	_, _ = c.w.Write(v.value)
	_, _ = c.w.WriteString("\r\n")
}

// reply is say, unless the last word asks for no answer.
func (c *session) reply(a [][]byte, line string) error {
	if quiet(a) {
		return nil
	}
	return c.say(line)
}

func (c *session) textArithmetic(a [][]byte, down bool) error {
	if len(a) < 2 || len(a) > 3 {
		return c.say("ERROR")
	}
	if !validKey(a[0]) {
		return c.reply(a, badFormat)
	}
	delta, err := strconv.ParseUint(string(a[1]), 10, 64)
	if err != nil {
		return c.reply(a, "CLIENT_ERROR invalid numeric delta argument")
	}
	out, n, _ := c.s.cache.arithmetic(arith{key: a[0], delta: delta, down: down})
	if quiet(a) {
		return nil
	}
	switch out {
	case stored:
		return c.say(strconv.FormatUint(n, 10))
	case notNumber:
		return c.say("CLIENT_ERROR cannot increment or decrement non-numeric value")
	}
	return c.say("NOT_FOUND")
}

func (c *session) textDelete(a [][]byte) error {
	if len(a) < 1 {
		return c.say("ERROR")
	}
	// An old form has a time after the key, which must be 0.
	if zero := len(a) > 1 && string(a[1]) == "0"; len(a) > 3 || len(a) == 3 && (!zero || !quiet(a)) || len(a) == 2 && !zero && !quiet(a) {
		return c.reply(a, badFormat+".  Usage: delete <key> [noreply]")
	}
	if !validKey(a[0]) {
		return c.reply(a, badFormat)
	}
	out := c.s.cache.delete(a[0], 0)
	switch {
	case quiet(a):
		return nil
	case out == stored:
		return c.say("DELETED")
	}
	return c.say("NOT_FOUND")
}

func (c *session) textTouch(a [][]byte) error {
	if len(a) < 2 || len(a) > 3 {
		return c.say("ERROR")
	}
	if !validKey(a[0]) {
		return c.reply(a, badFormat)
	}
	exp, err := strconv.ParseInt(string(a[1]), 10, 64)
	if err != nil {
		return c.reply(a, "CLIENT_ERROR invalid exptime argument")
	}
	_, ok := c.s.cache.touch(a[0], exp)
	switch {
	case quiet(a):
		return nil
	case ok:
		return c.say("TOUCHED")
	}
	return c.say("NOT_FOUND")
}

// textVerbosity takes a level, of which there is one.
func (c *session) textVerbosity(a [][]byte) error {
	if len(a) == 0 {
		return c.say("ERROR")
	}
	if _, err := strconv.ParseUint(string(a[0]), 10, 32); err != nil && !quiet(a) {
		return c.say(badFormat)
	}
	return c.reply(a, "OK")
}

func (c *session) textFlush(a [][]byte) error {
	var delay int64
	if len(a) > 2 {
		return c.say("ERROR")
	}
	if len(a) > 0 && !(len(a) == 1 && quiet(a)) {
		var err error
		if delay, err = strconv.ParseInt(string(a[0]), 10, 64); err != nil {
			return c.reply(a, "CLIENT_ERROR invalid exptime argument")
		}
	}
	c.s.cache.flush(delay)
	if quiet(a) {
		return nil
	}
	return c.say("OK")
}
