package containers

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/services"
)

// ensureNetwork makes the lab's network, unless it is there.
func (r *Runtime) ensureNetwork(ctx context.Context) error {
	name, subnet := r.networkName(), r.places.subnet
	have, err := r.docker.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
	switch {
	case err == nil && have.Network.Labels[labelDir] != r.c.Dir:
		return services.Errorf(services.Conflict, "there is a Docker network %s that is not this lab's", name).WithRemedy("remove it (docker network rm %s), or use another lab name: --name", name)
	case err == nil:
		return nil
	case !errdefs.IsNotFound(err):
		return fmt.Errorf("network %s: %w", name, r.broken(err))
	}
	if err := r.c.Journal.Put(journal.Network, name, subnetData{subnet.String()}); err != nil {
		return err
	}
	// The engine's own picks stay in the first block, which no region has.
	first := netip.PrefixFrom(subnet.Addr(), blockBits)
	_, err = r.docker.NetworkCreate(ctx, name, client.NetworkCreateOptions{
		Driver: "bridge", Labels: r.labels("", "network"),
		IPAM: &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: subnet, IPRange: first, Gateway: subnet.Addr().Next()}}},
		// A short name of the interface that can be told from others.
		Options: map[string]string{"com.docker.network.bridge.name": bridgeName(r.prefix)},
	})
	if err != nil && strings.Contains(err.Error(), "overlaps") {
		return &services.Error{Op: "network " + name, Kind: services.Conflict, Msg: subnet.String() + " meets another network of the engine", Err: err,
			Remedy: "remove the other one (docker network ls; docker network rm NAME), or take the lab down and up again: it chooses another"}
	}
	if err != nil {
		return fmt.Errorf("network %s: %w", name, r.broken(err))
	}
	return nil
}

// bridgeName is the name of the network's interface: 15 bytes at most.
func bridgeName(prefix string) string {
	return "flix" + prefix[len(prefix)-4:]
}

// ghostTime is how long an engine may count endpoints in a network in which it
// shows no container.
const ghostTime = 10 * time.Second

func (r *Runtime) removeNetwork(ctx context.Context) error {
	return r.removeNetworkWithin(ctx, ghostTime)
}

// removeNetworkWithin removes the lab's network. A container that is gone may
// hold its place there for a moment. An engine under load loses count of them
// for good (seen in 20.10: "endpoint_cnt"), and only its restart mends that.
func (r *Runtime) removeNetworkWithin(ctx context.Context, ghosts time.Duration) error {
	name := r.networkName()
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	for began := time.Now(); ; {
		have, err := r.docker.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
		if err == nil && have.Network.Labels[labelDir] == r.c.Dir {
			_, err = r.docker.NetworkRemove(ctx, name, client.NetworkRemoveOptions{})
		}
		if err != nil && strings.Contains(err.Error(), "active endpoints") {
			if len(have.Network.Containers) == 0 && time.Since(began) > ghosts {
				return &services.Error{Op: "network " + name, Kind: services.Unavailable, Reason: "ghost_endpoints", Err: err,
					Msg:    "the Docker engine counts containers in it and shows none: everything else of the lab is removed",
					Remedy: "restart the engine, which sets its count right (sudo systemctl restart docker; containers without a restart policy stop), then run the command again"}
			}
			select {
			case <-ctx.Done():
			case <-time.After(goneSoon):
				continue
			}
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("network %s: %w", name, r.broken(err))
		}
		return r.c.Journal.Delete(journal.Network, name)
	}
}
