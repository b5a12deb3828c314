package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/services"
)

// Engine is the Docker engine of this machine.
type Engine struct{ docker *client.Client }

// Open connects to the engine that DOCKER_HOST names, or to the default socket.
// It fails with services.Unavailable when none answers, services.Denied when
// the socket is not ours to use, services.Conflict when the engine is too old,
// and services.Invalid when it is on another machine: containers publish their
// ports on the loopback of the machine they run on. Close it.
func Open(ctx context.Context, getenv func(string) string) (*Engine, error) {
	host := getenv(client.EnvOverrideHost)
	if host == "" {
		host = client.DefaultDockerHost
	}
	if err := local(host); err != nil {
		return nil, err
	}
	c, err := client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(host), client.WithAPIVersionFromEnv())
	if err != nil {
		return nil, &services.Error{Kind: services.Invalid, Msg: "Docker's settings (DOCKER_HOST and the like) are wrong", Err: err}
	}
	e := NewEngine(c)
	short, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	ping, err := c.Ping(short, client.PingOptions{NegotiateAPIVersion: true})
	switch {
	case err != nil:
		err = e.translate("Docker", err)
	case older(ping.APIVersion, oldestAPI):
		err = services.Errorf(services.Conflict, "the Docker engine at %s speaks API %s", host, ping.APIVersion).
			WithRemedy("install Docker 20.10 or newer (API %s), or use --runtime embedded", oldestAPI)
	case ping.OSType != "" && ping.OSType != "linux":
		err = services.Errorf(services.Conflict, "the Docker engine at %s runs %s containers", host, ping.OSType).
			WithRemedy("use an engine that runs Linux containers, or --runtime embedded")
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return e, nil
}

// oldestAPI is the first version of the engine's interface that has all that a
// lab needs (Docker 20.10, 2020).
const oldestAPI = "1.41"

// answerTime bounds the first question to the engine.
const answerTime = 5 * time.Second

// older compares versions such as 1.41.
func older(have, want string) bool {
	var a, b [2]int
	_, _ = fmt.Sscanf(have, "%d.%d", &a[0], &a[1]) // what cannot be read is 0.0
	_, _ = fmt.Sscanf(want, "%d.%d", &b[0], &b[1])
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}

// Client is the client that the engine is reached by.
func (e *Engine) Client() *client.Client { return e.docker }

// NewEngine makes an engine of a client, which stays the caller's unless Close
// is called.
func NewEngine(c *client.Client) *Engine { return &Engine{docker: c} }

// Close closes the connections.
func (e *Engine) Close() error { return e.docker.Close() }

// local refuses an engine on another machine.
func local(host string) error {
	u, err := client.ParseHostURL(host)
	if err != nil {
		return &services.Error{Kind: services.Invalid, Msg: "DOCKER_HOST", Err: err}
	}
	if u.Scheme == "unix" || u.Scheme == "tcp" && loopback(u) {
		return nil
	}
	return services.Errorf(services.Invalid, "the Docker engine at %s is not on this machine: its containers' ports, on loopback there, cannot be reached from here", host).
		WithRemedy("use the engine of this machine: unset DOCKER_HOST")
}

func loopback(u *url.URL) bool {
	name := (&url.URL{Host: u.Host}).Hostname()
	return name == "localhost" || name == "::1" || strings.HasPrefix(name, "127.")
}

// translate gives an error of the engine its kind and remedy.
func (e *Engine) translate(op string, err error) error {
	var known *services.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	out := &services.Error{Op: op, Kind: services.Internal, Err: err}
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		out.Kind = services.Unavailable
	case client.IsErrConnectionFailed(err) && (errors.Is(err, os.ErrPermission) || strings.Contains(text, "permission denied")):
		out.Kind = services.Denied
		out.Remedy = "join the group that owns the socket, then log in again: sudo usermod -aG docker $USER"
	case client.IsErrConnectionFailed(err):
		out.Kind, out.Msg = services.Unavailable, "no Docker engine answers at "+e.docker.DaemonHost()
		out.Remedy = "install one (Debian: apt-get install docker.io) and start it: sudo systemctl start docker; a lab with --runtime embedded needs none"
	case strings.Contains(text, "minimum supported API version"):
		out.Kind, out.Remedy = services.Conflict, "install Docker 20.10 or later"
	case strings.Contains(text, "no space left on device"):
		out.Kind, out.Reason = services.Exhausted, "disk_full"
		out.Remedy = "free some disk; Docker's own shows docker system df, and docker system prune frees what nothing uses"
	case cerrdefs.IsNotFound(err):
		out.Kind = services.NotFound
	case cerrdefs.IsConflict(err):
		out.Kind = services.Conflict
	case cerrdefs.IsUnauthorized(err), cerrdefs.IsPermissionDenied(err):
		out.Kind = services.Denied
	case cerrdefs.IsInvalidArgument(err):
		out.Kind = services.Invalid
	}
	return out
}

// Inspect implements Store.
func (e *Engine) Inspect(ctx context.Context, ref string) (Image, error) {
	r, err := e.docker.ImageInspect(ctx, ref)
	if err != nil {
		return Image{}, e.translate("image "+ref, err)
	}
	img := Image{ID: r.ID, Size: r.Size, OS: r.Os, Architecture: r.Architecture, Labels: map[string]string{}, Env: map[string]string{}}
	if r.Config != nil {
		if r.Config.Labels != nil {
			img.Labels = r.Config.Labels
		}
		for _, kv := range r.Config.Env {
			k, v, _ := strings.Cut(kv, "=")
			img.Env[k] = v
		}
	}
	return img, nil
}

// Pull implements Store. It fails with services.Unavailable when the registry
// cannot be reached, services.NotFound when it has no such image.
func (e *Engine) Pull(ctx context.Context, ref string) error {
	r, err := e.docker.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err == nil {
		err = drain(r, nil)
	}
	err = e.translate("pull "+ref, err)
	var known *services.Error
	if errors.As(err, &known) && known.Kind == services.Internal { // the daemon's words for what its registry client met
		known.Kind = services.Unavailable
	}
	return err
}

// message is a line of the engine's answers to long calls.
type message struct {
	Stream string `json:"stream"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// drain reads an answer to its end, gives its lines to see (unless nil), and
// returns the error it tells of.
func drain(r io.ReadCloser, see func(string)) error {
	defer r.Close()
	dec := json.NewDecoder(r)
	for {
		var m message
		err := dec.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Error != nil:
			return errors.New(m.Error.Message)
		case see != nil && m.Stream != "":
			see(m.Stream)
		}
	}
}
