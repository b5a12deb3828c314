package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/services"
)

// up makes and starts a container, or starts it again; one that runs is left
// alone. One that was made but is not what is declared now, or was only half
// made or half removed, is made anew: its data are in its volume.
func (r *Runtime) up(ctx context.Context, d declaration, there map[string]found) error {
	name := r.containerName(d.ID)
	sum, err := d.sum()
	if err != nil {
		return err
	}
	was, ok := there[name]
	switch {
	case !ok:
		return r.create(ctx, name, sum, d)
	case was.running:
		return nil
	case was.sum == sum && was.exited:
		if _, err := r.docker.ContainerStart(ctx, was.container, client.ContainerStartOptions{}); err != nil {
			return r.notStarted(d, err)
		}
		return nil
	}
	if err := r.removeContainer(ctx, was.container); err != nil {
		return err
	}
	return r.create(ctx, name, sum, d)
}

// Environ is what a process that uses the runtime must have in its environment:
// testcontainers reads its settings there, once. Its reaper would end the
// containers with the process that made them; a lab outlives its daemon, and
// labels and the journal see to what is left.
func Environ() []string { return []string{"TESTCONTAINERS_RYUK_DISABLED=true"} }

// quiet takes testcontainers' chatter: what matters comes back as an error.
var quiet = log.New(io.Discard, "", 0)

func (r *Runtime) create(ctx context.Context, name, sum string, d declaration) error {
	labels := r.labels(d.Host, d.Role)
	labels[labelID], labels[labelAddress], labels[labelSum] = d.ID, d.Address, sum
	if !d.Serves {
		specs, err := json.Marshal(d.Specs)
		if err != nil {
			return fmt.Errorf("%s: %w", d.ID, err)
		}
		labels[labelSpecs] = string(specs)
	}
	if err := r.c.Journal.Put(journal.Container, name, struct{}{}); err != nil {
		return err
	}
	req := testcontainers.GenericContainerRequest{Started: true, Logger: quiet}
	req.Name, req.Image, req.Env, req.Cmd, req.Labels = name, d.Image, maps.Clone(d.Env), d.Cmd, labels
	if d.Serves {
		req.Entrypoint = []string{"/" + binaryPath}
	}
	mounts, err := r.mounts(name, d)
	if err != nil {
		return err
	}
	bindings, err := r.bindings(d)
	if err != nil {
		return err
	}
	for p := range bindings {
		req.ExposedPorts = append(req.ExposedPorts, p.String())
	}
	address, err := netip.ParseAddr(d.Address)
	if err != nil {
		return fmt.Errorf("%s: %w", d.ID, err)
	}
	r.modify(&req, d, address, mounts, bindings)
	if _, err := testcontainers.GenericContainer(ctx, req); err != nil {
		return r.notStarted(d, err)
	}
	return nil
}

// modify sets what the library's own request has no word for.
func (r *Runtime) modify(req *testcontainers.GenericContainerRequest, d declaration, address netip.Addr, mounts []mount.Mount, bindings network.PortMap) {
	var hostConfig *container.HostConfig
	req.ConfigModifier = func(c *container.Config) {
		c.StopTimeout = &d.Grace
		if !r.hostNetwork() {
			c.Hostname = hostname(d.ID)
		}
	}
	req.HostConfigModifier = func(h *container.HostConfig) {
		h.Mounts, h.PortBindings = mounts, bindings
		h.NetworkMode = container.NetworkMode(r.networkName())
		if r.hostNetwork() {
			h.NetworkMode = network.NetworkHost
		}
		h.Memory, h.MemorySwap = d.Memory, d.Memory // and no swap on top
		h.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyDisabled}
		h.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "8m", "max-file": "2"}}
		hostConfig = h
	}
	req.EndpointSettingsModifier = func(m map[string]*network.EndpointSettings) {
		if !r.hostNetwork() {
			m[r.networkName()] = &network.EndpointSettings{
				IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: address}, Aliases: []string{hostname(d.ID)},
			}
		}
	}
	// The library publishes every port that the image names, on every address of
	// the machine, after the modifiers: only what is declared shall be, and on
	// loopback alone.
	req.LifecycleHooks = []testcontainers.ContainerLifecycleHooks{{PreCreates: []testcontainers.ContainerRequestHook{
		func(context.Context, testcontainers.ContainerRequest) error {
			hostConfig.PortBindings = bindings
			return nil
		},
	}}}
}

// mounts are the folder that flix's own containers read, and the volume of a
// container's data, which is journaled.
func (r *Runtime) mounts(name string, d declaration) ([]mount.Mount, error) {
	var out []mount.Mount
	if d.Serves {
		out = append(out, mount.Mount{Type: mount.TypeBind, Source: r.stateDir(), Target: serveDir, ReadOnly: true})
	}
	if d.Volume == "" {
		return out, nil
	}
	volume := name + "-data"
	if err := r.c.Journal.Put(journal.Volume, volume, struct{}{}); err != nil {
		return nil, err
	}
	return append(out, mount.Mount{Type: mount.TypeVolume, Source: volume, Target: d.Volume, VolumeOptions: &mount.VolumeOptions{Labels: r.labels(d.Host, d.Role)}}), nil
}

// bindings are the ports that a container publishes: none on the host's
// network, where they are this machine's already.
func (r *Runtime) bindings(d declaration) (network.PortMap, error) {
	out := network.PortMap{}
	if r.hostNetwork() {
		return out, nil
	}
	for _, p := range d.Publish {
		np, err := network.ParsePort(p.String())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.ID, err)
		}
		out[np] = []network.PortBinding{{HostIP: clientAddress, HostPort: strconv.Itoa(p.Number)}}
	}
	return out, nil
}

// clientAddress is where ports are published.
var clientAddress = netip.MustParseAddr("127.0.0.1")

// hostname is a container's name for the others: its id from the inside out,
// e.g. 1.gateway.a.us-east.
func hostname(id string) string {
	parts := strings.Split(id, "/")
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, ".")
}

// takenPort finds the published port that an engine's words are about.
func takenPort(d declaration, text string) string {
	for _, s := range d.Specs {
		for _, p := range published(s) {
			if strings.Contains(text, fmt.Sprintf("%s:%d", clientAddress, p.Number)) {
				return fmt.Sprintf("port %d of %s, which is %s's,", p.Number, clientAddress, s.ID)
			}
		}
	}
	return fmt.Sprintf("one of the ports %s of %s", services.ListOf(d.Publish), clientAddress)
}

// notStarted explains why the engine did not start a container.
func (r *Runtime) notStarted(d declaration, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", d.ID, err)
	case strings.Contains(text, "port is already allocated"), strings.Contains(text, "address already in use"):
		return &services.Error{Op: d.ID, Kind: services.Conflict, Msg: takenPort(d, text) + " is taken by another program", Err: err,
			Remedy: "find it with ss -ltnp and end it, then run the command again; or take the lab down first, so that it chooses other ports"}
	case full(text):
		return diskFull(d.ID, err)
	case strings.Contains(text, "Address already in use") || strings.Contains(text, "address already"):
		return &services.Error{Op: d.ID, Kind: services.Conflict, Msg: "its address " + d.Address + " is taken in the lab's network", Err: err, Remedy: "remove what does not belong to the lab from network " + r.networkName()}
	}
	return fmt.Errorf("%s: %w", d.ID, r.broken(err))
}
