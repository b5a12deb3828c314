//go:build !linux

package wire

import (
	"errors"
	"time"
)

// canSendfile says whether the kernel sends files: here net copies.
const canSendfile = false

type kernel struct{}

func (*kernel) init(*conn) {}

var errNoKernel = errors.New("the kernel sends no files here")

func (*conn) sendPlain(*Request, *Answer) error { return errNoKernel }

func (*conn) room() error { return nil }

func (c *conn) awaitPlain() error {
	c.hold()
	n, err := c.tcp.Read(*c.buf)
	c.filled = n
	return err
}

type path struct{}

const shortPath = 0

func (*conn) fit(time.Duration)           {}
func (*conn) review(int64, time.Duration) {}

func (*kernel) push([]byte, *File, int64, int64, bool) error { return errNoKernel }
