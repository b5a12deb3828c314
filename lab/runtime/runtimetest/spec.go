package runtimetest

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// ownAddress is a loopback address that nobody but this process takes ports of:
// a port that a test has found free, or given back, stays free for as long as an
// instance is down, whatever runs on the machine beside. Where there is but one
// loopback address it is that one.
func ownAddress() string {
	pid := os.Getpid()
	own := net.IPv4(127, byte(64+pid>>16&63), byte(pid>>8), byte(pid)).String()
	l, err := net.Listen("tcp", net.JoinHostPort(own, "0"))
	if err != nil {
		return "127.0.0.1"
	}
	_ = l.Close()
	return own
}

// Spec declares the n-th instance of a region with a free port and a folder
// below data.
func Spec(t testing.TB, data, region string, n int) runtime.Spec {
	t.Helper()
	address := ownAddress()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return runtime.Spec{
		Instance: topology.Instance{ID: topology.InstanceID(region, "a", topology.RoleKV, n), Region: region, Zone: "a", Role: topology.RoleKV, Number: n, Ports: []string{topology.PortRPC}},
		Address:  address, PortNumbers: map[string]int{topology.PortRPC: l.Addr().(*net.TCPAddr).Port},
		Dir: filepath.Join(data, region, strconv.Itoa(n)),
	}
}
