package runtimetest

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// Spec declares the n-th instance of a region with a free port and a folder
// below data.
func Spec(t testing.TB, data, region string, n int) runtime.Spec {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return runtime.Spec{
		Instance: topology.Instance{ID: topology.InstanceID(region, "a", topology.RoleKV, n), Region: region, Zone: "a", Role: topology.RoleKV, Number: n, Ports: []string{topology.PortRPC}},
		Address:  "127.0.0.1", PortNumbers: map[string]int{topology.PortRPC: l.Addr().(*net.TCPAddr).Port},
		Dir: filepath.Join(data, region, strconv.Itoa(n)),
	}
}
