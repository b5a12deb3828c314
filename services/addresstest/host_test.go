package addresstest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
)

func TestRefusing(t *testing.T) {
	c, err := net.Dial("tcp", Refusing(t))
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want it refused", err)
	}
}

// A port that the system gave would be given to another listener, too.
func TestPortIsGivenToNobody(t *testing.T) {
	port := Port(t)
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Skipf("the system does not tell which ports it gives: %v", err)
	}
	var first, last int
	if _, err := fmt.Sscan(string(b), &first, &last); err != nil {
		t.Fatal(err)
	}
	if port >= first && port <= last {
		t.Errorf("port %d is of those that the system gives, %d to %d", port, first, last)
	}
}
