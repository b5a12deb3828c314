package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/flix-lab/flix/lab/runtime/host"
)

// RunHost runs a host until it is told to quit, gets a signal (ctx ends) or
// fails. dir is the lab's directory, socket where it answers; it holds a lock
// for its name, so that there is never a second one. It tells ready itself.
func RunHost(ctx context.Context, dir, name, socket string, f host.Factory, log *slog.Logger, ready *Readiness) error {
	lock, err := lockFile(filepath.Join(dir, "run", name+".lock"))
	if err != nil {
		err = fmt.Errorf("host %s: %w", name, err)
		ready.Tell(err)
		return err
	}
	defer lock.Close()
	l, err := listenUnix(socket)
	if err != nil {
		ready.Tell(err)
		return err
	}
	ready.Tell(nil) // what connects now waits in the socket's queue
	err = host.New(name, f, log).Serve(ctx, l, nil)
	_ = os.Remove(socket)
	return err
}

func listenUnix(socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket %s: %w", socket, err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", socket, err)
	}
	return l, os.Chmod(socket, 0o600)
}

// unixClient speaks to the host at a socket.
func unixClient(socket string) *host.Client {
	return host.NewClient("http://host", "", func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	})
}
