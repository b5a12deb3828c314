//go:build !linux

package wire

import "syscall"

// hasSockets is false where net.TCPConn does as well.
const hasSockets = false

func receiveNow(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOTSUP }

func sendNow(uintptr, *[3][]byte) (int, syscall.Errno) { return 0, syscall.ENOTSUP }
