package containers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/lab/runtime/host"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

// Place implements runtime.Runtime.
func (r *Runtime) Place(s *runtime.Spec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.places.subnet.IsValid() {
		return services.Errorf(services.Conflict, "%s: the lab has no network yet", s.ID)
	}
	var err error
	if s.Address, err = r.places.of(s.Region, r.inside(s.Instance)); err != nil {
		return err
	}
	if r.hostNetwork() && faceClients(s.Role) {
		s.Address = clientAddress.String()
	}
	s.Dir = dataDir
	if r.packed() {
		s.Dir = dataDir + "/" + strings.ReplaceAll(s.ID, "/", "-")
	}
	if !isStore(s.Role) {
		return nil
	}
	agent, err := r.places.of(s.Region, agentID(s.Region))
	if err != nil {
		return err
	}
	s.Sidecar, s.Dir = true, dataDir+"/"+strings.ReplaceAll(s.ID, "/", "-")
	s.Addresses = map[string]string{topology.PortAdmin: agent, topology.PortReplication: agent}
	if r.hostNetwork() && s.Role == topology.RoleKV {
		// Here a connection's source tells nothing about the region it comes from:
		// no proxy could delay it, so the nodes meet without one.
		delete(s.Addresses, topology.PortReplication)
	}
	if s.Role == topology.RoleS3 { // clients come through the sidecar, which counts what is served
		s.Addresses[topology.PortHTTP] = agent
	}
	return nil
}

// InContainer names the container that an instance runs in, and how many of
// flix's own instances it is: none when a real store serves it.
func InContainer(c topology.Containers, i topology.Instance) (id string, own int) {
	switch {
	case isStore(i.Role):
		return i.ID, 0
	case c.Pack == topology.PackZone:
		return packID(i), 1
	}
	return i.ID, 1
}

// inside is the container that an instance runs in.
func (r *Runtime) inside(i topology.Instance) string {
	id, _ := InContainer(r.c.Declared(), i)
	return id
}

// packed says whether a zone's services share one container.
func (r *Runtime) packed() bool { return r.c.Declared().Pack == topology.PackZone }

// Release implements runtime.Runtime. A container that several instances share
// goes with the last of them.
func (r *Runtime) Release(i topology.Instance) error {
	id := r.inside(i)
	if id != i.ID {
		left, err := r.specsIn(id)
		if err != nil || len(left) > 0 {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	if err := errors.Join(r.removeAll(ctx, filter{name: r.containerName(id)}, false), r.forgetSpecs(id)); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.places.release(id)
}

// hostNetwork says whether containers share this machine's network.
func (r *Runtime) hostNetwork() bool { return r.c.Declared().Network == topology.HostNetwork }

// faceClients says whether clients dial instances of a role. On the machine's
// own network these listen where clients look for them.
func faceClients(role topology.Role) bool {
	return role == topology.RoleDNS || role == topology.RoleELB || role == topology.RoleOCA
}

// Complete implements runtime.Runtime.
func (r *Runtime) Complete(w *runtime.World) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.Runtime = Name
	if !r.hostNetwork() {
		w.Client = clientAddress.String()
	}
	w.Peers = []netip.Prefix{r.places.subnet, netip.MustParsePrefix("127.0.0.0/8")}
	w.Blocks, _ = r.places.list() // every region of it has its block
}

// controlPort is where a "flix serve" answers the daemon.
const controlPort = 9099

func controlAddr(address string) string {
	return net.JoinHostPort(address, strconv.Itoa(controlPort))
}

// control is a client of the "flix serve" at an address.
func (r *Runtime) control(address string) (*host.Client, error) {
	r.mu.Lock()
	w := r.world
	r.mu.Unlock()
	key, err := token.NewKey(w.ID, w.Key)
	if err != nil {
		return nil, err
	}
	return host.NewClient("http://"+controlAddr(address), key.Secret(token.AdminKey), (&net.Dialer{Timeout: 2 * time.Second}).DialContext), nil
}

// routedNetworks are the networks that this machine has routes to, but the
// default one: a lab's network must not hide them.
func routedNetworks() ([]netip.Prefix, error) {
	b, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, fmt.Errorf("routes of this machine: %w", err)
	}
	return parseRoutes(string(b)), nil
}

// parseRoutes reads the kernel's table of IPv4 routes: the destination and its
// mask are in hexadecimal, in the machine's (little-endian) order of bytes.
func parseRoutes(table string) []netip.Prefix {
	var out []netip.Prefix
	for _, line := range strings.Split(table, "\n") {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		dest, err1 := strconv.ParseUint(f[1], 16, 32)
		mask, err2 := strconv.ParseUint(f[7], 16, 32)
		if err1 != nil || err2 != nil || mask == 0 {
			continue
		}
		bits := 0
		for m := mask; m != 0; m &= m - 1 {
			bits++
		}
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(dest), byte(dest >> 8), byte(dest >> 16), byte(dest >> 24)}), bits))
	}
	return out
}
