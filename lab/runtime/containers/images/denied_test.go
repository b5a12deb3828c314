package images

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// TestNotOurSocket dials a socket that belongs to others; a file's mode would
// not keep root, who may run this test, out.
func TestNotOurSocket(t *testing.T) {
	c, err := client.New(client.WithHost("unix:///var/run/docker.sock"), client.WithAPIVersion("1.41"), client.WithDialContext(func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	}))
	if err != nil {
		t.Fatal(err)
	}
	e := NewEngine(c)
	defer e.Close()
	_, err = c.Ping(t.Context(), client.PingOptions{})
	err = e.translate("Docker", err)
	var known *services.Error
	if !errors.As(err, &known) || known.Kind != services.Denied || !strings.Contains(known.Remedy, "usermod -aG docker") {
		t.Errorf("%v, of kind %s", err, services.KindOf(err))
	}
	if _, err := e.Inspect(t.Context(), "x"); services.KindOf(err) != services.Denied {
		t.Errorf("inspect: %v", err)
	}
}
