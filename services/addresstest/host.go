// Package addresstest gives tests loopback addresses that other tests leave
// alone. It listens on none.
package addresstest

import (
	"net"
	"os"
	"testing"
)

// Host returns a loopback address of this process alone, without a port. A
// server that stops and comes back on the same port, or that shall refuse, is
// to stand there: on 127.0.0.1 another test that runs at the same time may be
// given the port meanwhile. Where the system has no loopback address but
// 127.0.0.1, that is returned.
func Host(t testing.TB) string {
	t.Helper()
	// A process's number has 22 bits on Linux; the addresses below 127.128 are
	// left to those who choose them by hand.
	pid := os.Getpid()
	host := net.IPv4(127, byte(128|pid>>16&0x7f), byte(pid>>8), byte(pid)).String()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		return "127.0.0.1"
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return host
}
