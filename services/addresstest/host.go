// Package addresstest gives tests addresses that other tests leave alone. It
// listens on none.
package addresstest

import (
	"math/rand/v2"
	"net"
	"os"
	"strconv"
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

// Refusing returns an address of Host that nobody listens on, and nobody will.
func Refusing(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", Host(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String()
}

// The ports that Port chooses from: labs take those from 20000 on, and systems
// give those from 32768 on to whoever asks for any.
const (
	portFirst = 10000
	ports     = 10000
)

// Port returns a port of 127.0.0.1 that is free, and that no system gives to
// who asks for any: another program takes its time until it listens there, or
// goes and comes back, and listeners of other tests that run at the same time
// are not to be given the port meanwhile.
func Port(t testing.TB) int {
	t.Helper()
	var last error
	for range 100 {
		port := portFirst + rand.IntN(ports)
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			err = ln.Close()
		}
		if err == nil {
			return port
		}
		last = err
	}
	t.Fatalf("no port from %d on is free: %v", portFirst, last)
	return 0
}
