//go:build !linux

package wire

import "errors"

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

type sizing struct{}

func (*conn) fit()         {}
func (*conn) review(int64) {}
