// Package runtime is the port between the lab and what its instances run on:
// host processes (embedded) or containers. The declared form of an instance is
// one JSON value, Spec, the same for both.
package runtime

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/topology"
)

// Spec is everything an instance needs to know to run.
type Spec struct {
	topology.Instance
	// Address it listens on, e.g. "127.0.0.1".
	Address string `json:"address"`
	// Addresses of ports that something beside the instance listens on, by port
	// name: the admin port of a store is its sidecar's.
	Addresses map[string]string `json:"addresses,omitempty"`
	// Sidecar says that a real store serves the instance: the unit watches it,
	// registers it and answers on the ports of Addresses.
	Sidecar bool `json:"sidecar,omitempty"`
	// Port numbers by port name; every name of Instance.Ports has one.
	PortNumbers map[string]int `json:"port_numbers"`
	// Dir is the instance's own data directory; it outlives the instance.
	Dir string `json:"dir"`
	// Properties at start; they change over the admin endpoint.
	Properties map[string]string `json:"properties,omitempty"`
	// Primary marks the SQL node that takes writes at first start.
	Primary bool `json:"primary,omitempty"`
	// Status to register with: "UP", or "STARTING" for a dark instance.
	Status string `json:"status,omitempty"`
}

// Where is where a port of the instance is dialled, without the port's number.
func (s Spec) Where(port string) string {
	if a, ok := s.Addresses[port]; ok {
		return a
	}
	return s.Address
}

// Addr is "host:port" of a port of the instance.
func (s Spec) Addr(port string) string {
	return net.JoinHostPort(s.Where(port), strconv.Itoa(s.PortNumbers[port]))
}

// World is what all instances of a lab share. It changes when the lab
// converges to another topology; running instances take the new value without
// a restart.
type World struct {
	// Lab is the lab's name; ID is unique to this incarnation of it.
	Lab string `json:"lab"`
	ID  string `json:"id"`
	// Runtime the lab runs on: "embedded" or "containers".
	Runtime string `json:"runtime"`
	// Topology as compiled.
	Topology topology.Topology `json:"topology"`
	// Key is the lab's root key.
	Key []byte `json:"key"`
	// CA certificate, and the certificate and key of the lab's edges, in PEM.
	CAPEM   []byte `json:"ca_pem"`
	CertPEM []byte `json:"cert_pem"`
	KeyPEM  []byte `json:"key_pem"`
	// Registries maps a region to its registries' base URLs.
	Registries map[string][]string `json:"registries"`
	// Ports says which region each range of ports belongs to.
	Ports []PortRange `json:"ports"`
	// Blocks says which region each block of addresses belongs to; empty where
	// all instances share one address.
	Blocks []Block `json:"blocks,omitempty"`
	// Client is the address that the lab's edges are published on for clients,
	// whatever they listen on; empty where that is the same.
	Client string `json:"client,omitempty"`
	// Stores are the instances that real stores serve.
	Stores []Spec `json:"stores,omitempty"`
	// Cuts are the partitions of the WAN that are in force.
	Cuts []Cut `json:"cuts,omitempty"`
	// Faults are in force until their own time, whoever lives by then.
	Faults []fault.Fault `json:"faults,omitempty"`
	// Peers are the only networks from which an edge takes a PROXY header, and
	// that a gateway's origins lie in.
	Peers []netip.Prefix `json:"peers"`
}

// Cut is a partition between two regions that ends by itself.
type Cut struct {
	Between [2]string `json:"between"`
	Until   time.Time `json:"until"`
}

// Block is a block of addresses that belongs to one region.
type Block struct {
	Prefix netip.Prefix `json:"prefix"`
	Region string       `json:"region"`
}

// PortRange is a range of ports that belongs to one region.
type PortRange struct {
	First  int    `json:"first"`
	Last   int    `json:"last"`
	Region string `json:"region"`
}

// StoresOf lists the real stores of a role.
func (w World) StoresOf(role topology.Role) []Spec {
	var out []Spec
	for _, s := range w.Stores {
		if s.Role == role {
			out = append(out, s)
		}
	}
	return out
}

// RegionOfPort returns the region a port belongs to.
func (w World) RegionOfPort(port int) (string, bool) {
	for _, r := range w.Ports {
		if port >= r.First && port <= r.Last {
			return r.Region, true
		}
	}
	return "", false
}

// RegionOfAddress returns the region an address belongs to.
func (w World) RegionOfAddress(a netip.Addr) (string, bool) {
	for _, b := range w.Blocks {
		if b.Prefix.Contains(a.Unmap()) {
			return b.Region, true
		}
	}
	return "", false
}

// State of an instance.
type State string

// The states.
const (
	Running State = "running"
	Stopped State = "stopped" // asked to
	Failed  State = "failed"  // ended by itself; restarted with back-off
	Gone    State = "gone"    // its host or container is not there
)

// Instance is a live instance.
type Instance struct {
	Spec    Spec      `json:"spec"`
	State   State     `json:"state"`
	Started time.Time `json:"started"`
	// PID of the process it runs in, or Container its id.
	PID       int    `json:"pid,omitempty"`
	Container string `json:"container,omitempty"`
	Error     string `json:"error,omitempty"`
	Restarts  int    `json:"restarts,omitempty"`
}

// Runtime starts and ends instances. Methods are safe for concurrent use.
//
// Two instances may or may not share a process: nothing above this port may
// depend on either.
type Runtime interface {
	// Name is "embedded" or "containers".
	Name() string
	// Place decides where an instance is to listen and keep its data: it sets
	// Address, Addresses, Sidecar and Dir. The same instance keeps its place
	// until Release.
	Place(s *Spec) error
	// Release gives the place of an instance that was stopped and is not wanted
	// any more back: List does not have it after.
	Release(i topology.Instance) error
	// Complete adds to a world what only the runtime knows: Runtime, Blocks,
	// Client and Peers.
	Complete(w *World)
	// Shared is a folder that every instance can read: its path here, and the
	// path by which instances know it.
	Shared() (here, there string)
	// SetWorld gives every running host the new world; hosts started later get
	// it too. Idempotent.
	SetWorld(ctx context.Context, w World) error
	// Start brings the instances up and returns when each one's listeners
	// accept. Idempotent: one that already runs is left alone, whatever its
	// spec. On error some may be running: Stop or Start again.
	Start(ctx context.Context, specs []Spec) error
	// Stop ends instances in order: deregistered, drained within grace, closed.
	// One that does not run is no error.
	Stop(ctx context.Context, ids []string, grace time.Duration) error
	// Kill ends an instance at once: sockets are reset, memory is lost, the
	// disk stays.
	Kill(ctx context.Context, id string) error
	// List returns every instance the runtime knows, running or not.
	List(ctx context.Context) ([]Instance, error)
	// Remove ends every process or container of the lab at once and forgets
	// them. Idempotent; it never touches what the lab did not make.
	Remove(ctx context.Context) error
	// Processes lists the operating-system processes of the lab.
	Processes(ctx context.Context) ([]int, error)
	// Hosts lists the fault domains that were made (a region's name, or "oc"
	// for the appliances) and whether each is alive.
	Hosts() map[string]bool
	// EndHost ends a fault domain that is not wanted any more, in order, and
	// forgets it. With keep its data stay.
	EndHost(ctx context.Context, host string, keep bool) error
}

// OpenConnect is the fault domain of the appliances.
const OpenConnect = "oc"
