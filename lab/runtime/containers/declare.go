package containers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// declaration is a container as the lab wants it.
type declaration struct {
	// id of the instance, agent or pack; host is its fault domain, role the
	// instance's, or "agent" or "pack".
	ID, Region, Host, Role string
	// Address in the lab's network.
	Address string
	Image   string
	// Specs of the instances inside.
	Specs []runtime.Spec
	Cmd   []string
	Env   map[string]string
	// Publish are the ports that are published for clients.
	Publish []port
	// Volume is where the container keeps its data; "" if it has none.
	Volume string
	// Memory limit in bytes; 0 is none.
	Memory int64
	// Grace is how long it may take to stop, in seconds.
	Grace int

	// Serves says that it is one of flix's own: it runs the specs, and others that
	// come later, which are no reason to make it anew.
	Serves bool
}

type port struct {
	Number int
	UDP    bool
}

func (p port) String() string {
	if p.UDP {
		return strconv.Itoa(p.Number) + "/udp"
	}
	return strconv.Itoa(p.Number) + "/tcp"
}

// sum tells two declarations apart.
func (d declaration) sum() (string, error) {
	// Properties, status and the like are told to what runs: they are no reason
	// to make a container anew.
	d.Specs = slices.Clone(d.Specs)
	for k := range d.Specs {
		d.Specs[k].Properties, d.Specs[k].Status = nil, ""
	}
	if d.Serves {
		d.Specs = nil
	}
	// An instance that was stopped and started again comes last.
	d.Publish = slices.SortedFunc(slices.Values(d.Publish), func(a, b port) int { return strings.Compare(a.String(), b.String()) })
	b, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("%s: %w", d.ID, err)
	}
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:16]), nil
}

// published lists the ports of an instance that clients dial.
func published(s runtime.Spec) []port {
	var out []port
	for _, name := range s.Ports {
		n := s.PortNumbers[name]
		switch {
		case name == topology.PortClient && s.Role == topology.RoleDNS:
			out = append(out, port{Number: n}, port{Number: n, UDP: true})
		case Public(s.Instance, name):
			out = append(out, port{Number: n})
		}
	}
	return out
}

// Public says whether a port of an instance is one that clients dial.
func Public(i topology.Instance, port string) bool {
	return port == topology.PortClient || port == topology.PortPlain || i.Role == topology.RoleELB && port == topology.PortHTTP
}

// Where a "flix serve" keeps what it is told, and where instances keep data.
const (
	serveDir = "/flix"
	dataDir  = "/data"
)

// hasData are the roles of flix's own that keep something on disk.
func hasData(r topology.Role) bool { return r == topology.RoleOCA || r == topology.RoleTranscode }

// serve declares a container of flix's own with the given instances.
func (r *Runtime) serve(id, region, host, role, address string, specs []runtime.Spec) declaration {
	d := declaration{
		ID: id, Region: region, Host: host, Role: role, Address: address, Image: r.image.tag, Specs: specs, Serves: true,
		Cmd: []string{ServeVerb, id, "--state", serveDir, "--control", controlAddr(address)},
		Env: map[string]string{"GOMEMLIMIT": "96MiB"}, Grace: 4, Memory: serviceMemory,
	}
	if role == rolePack {
		d.Env["GOMEMLIMIT"], d.Memory = "384MiB", packMemory
	}
	if role == roleAgent {
		d.Volume = dataDir // its sidecars' counts outlive it
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "FLIX_LOG_LEVEL"} {
		if v := r.c.Getenv(name); v != "" {
			d.Env[name] = v
		}
	}
	for _, s := range specs {
		d.Publish = append(d.Publish, published(s)...)
		if hasData(s.Role) {
			d.Volume = dataDir
		}
		if s.Role == topology.RoleTranscode {
			// An encoder takes what its pictures need.
			d.Image, d.Memory = r.codecImage.tag, 0
		}
	}
	return d
}

// Bounds of the memory of a container of flix's own: with one instance, which
// takes a fifth of it, and with those of a zone.
const (
	serviceMemory = 160 << 20
	packMemory    = 640 << 20
)
