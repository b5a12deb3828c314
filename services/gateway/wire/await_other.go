//go:build !unix

package wire

import "net"

// awaitByte returns at once: the read that follows waits, with a buffer.
func awaitByte(*net.TCPConn) error { return nil }

// hungUp cannot be known here: a write will tell.
func hungUp(rawConn) (ended, reset bool) { return false, false }
