//go:build !linux

package wire

import "net"

// LimitUnsent does nothing where the kernel has no such limit.
func LimitUnsent(*net.TCPConn) {}
