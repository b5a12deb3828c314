package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// oldestAPI is the first version of the engine's interface that has all that a
// lab needs (Docker 20.10, 2020).
const oldestAPI = "1.41"

// answerTime bounds the first question to the engine.
const answerTime = 5 * time.Second

// Connect returns a client of the Docker engine of this machine. host is
// DOCKER_HOST: empty for the usual socket, or unix://PATH. The error says what
// to do about it.
func Connect(ctx context.Context, host string) (*client.Client, error) {
	socket := "/var/run/docker.sock"
	if path, ok := strings.CutPrefix(host, "unix://"); ok {
		socket = path
	} else if host != "" {
		return nil, services.Errorf(services.Unavailable, "DOCKER_HOST is %s: the engine is not on this machine", host).
			WithRemedy("unset DOCKER_HOST, or set it to the socket of an engine that runs here (unix:///var/run/docker.sock): instances are reached at their containers' addresses")
	}
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	ping, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		return nil, errors.Join(explain(socket, err), c.Close())
	}
	if older(ping.APIVersion, oldestAPI) {
		return nil, errors.Join(services.Errorf(services.Unavailable, "the Docker engine at %s speaks API %s", socket, ping.APIVersion).
			WithRemedy("install Docker 20.10 or newer (API %s), or use --runtime embedded", oldestAPI), c.Close())
	}
	if ping.OSType != "" && ping.OSType != "linux" {
		return nil, errors.Join(services.Errorf(services.Unavailable, "the Docker engine at %s runs %s containers", socket, ping.OSType).
			WithRemedy("use an engine that runs Linux containers, or --runtime embedded"), c.Close())
	}
	return c, nil
}

// explain says why the engine does not answer, and the remedy.
func explain(socket string, err error) error {
	_, serr := os.Stat(socket)
	switch probe := syscall.Access(socket, 6 /* R_OK|W_OK */); {
	case errors.Is(serr, fs.ErrNotExist):
		return services.Errorf(services.Unavailable, "there is no Docker engine at %s", socket).
			WithRemedy("install and start one (Debian: apt-get install docker.io, then systemctl start docker, or dockerd by hand), or use --runtime embedded, which needs nothing")
	case probe != nil:
		return services.Errorf(services.Denied, "the Docker socket %s may not be used by this user", socket).
			WithRemedy("join its group (usermod -aG docker $USER, then log in again), or use --runtime embedded")
	}
	return &services.Error{Op: "docker", Kind: services.Unavailable, Msg: "the engine at " + socket + " does not answer", Err: err,
		Remedy: "start it (systemctl start docker, or dockerd by hand) and run the command again: the lab goes on from what is there"}
}

// older compares versions such as 1.41.
func older(have, want string) bool {
	var a, b [2]int
	_, _ = fmt.Sscanf(have, "%d.%d", &a[0], &a[1]) // what cannot be read is 0.0
	_, _ = fmt.Sscanf(want, "%d.%d", &b[0], &b[1])
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}
