// Package control is the daemon's API on a unix socket, its client, and the
// lab's event log. Requests and answers are JSON; long work streams its
// progress as one JSON object a line. Only the lab's own user is served.
package control

import (
	"time"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/topology"
)

// Event is something that happened in a lab.
type Event struct {
	Seq uint64    `json:"seq"`
	At  time.Time `json:"at"`
	// Kind is a dotted name: "lab.up", "instance.failed", "play.start", "fill.done".
	Kind string `json:"kind"`
	// Subject is the instance, region, title or session it is about.
	Subject string `json:"subject,omitempty"`
	Text    string `json:"text"`
	// Data carries what a program would want; its shape belongs to the kind.
	Data map[string]any `json:"data,omitempty"`
}

// UpRequest asks the daemon to converge to a topology.
type UpRequest struct {
	Topology topology.Topology `json:"topology"`
	Runtime  string            `json:"runtime"` // "embedded"
	DryRun   bool              `json:"dry_run,omitempty"`
}

// RegionState is a region's name and state.
type RegionState struct {
	Name string `json:"name"`
	// State is ready, starting, degraded, down, stopped or evacuated.
	State string `json:"state"`
}

// Step is a named part of a verb with the time it took.
type Step struct {
	Name string  `json:"name"`
	MS   float64 `json:"ms"`
}

// Changes counts instances that a converging up added, removed, and started anew
// because they ran as they had been declared before.
type Changes struct {
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Renewed int `json:"renewed"`
}

// UpResult is the JSON of "flix lab up".
type UpResult struct {
	Name      string        `json:"name"`
	Runtime   string        `json:"runtime"`
	Regions   []RegionState `json:"regions"`
	Instances int           `json:"instances"`
	Changes   Changes       `json:"changes"`
	Steps     []Step        `json:"steps"`
	// ReadyMS is the time from the start of the command to the moment a title
	// had played from every region, in milliseconds.
	ReadyMS float64 `json:"ready_ms"`
	// WholeMS is the time from the start of the command until all of the lab was
	// there and its appliances were full, in milliseconds.
	WholeMS float64 `json:"whole_ms"`
	// RSSBytes is the sum of the proportional set sizes of the lab's processes.
	RSSBytes int64 `json:"rss_bytes"`
}

// Plan is the JSON of "flix lab up --dry-run".
type Plan struct {
	Name    string   `json:"name"`
	Runtime string   `json:"runtime"`
	Regions []string `json:"regions"`
	// Add and Remove list instances that an up would start and stop.
	Add    []string `json:"add"`
	Remove []string `json:"remove"`
	// Renew are appliances that run as they were declared before: an up starts
	// them anew.
	Renew []string `json:"renew"`
	// TimingKept are the intervals that are declared otherwise than before: what
	// runs keeps the old until it starts anew.
	TimingKept []string `json:"timing_kept"`
	Budget     Budget   `json:"budget"`
}

// Budget is what a lab needs before it is made.
type Budget struct {
	Instances   int   `json:"instances"`
	Processes   int   `json:"processes"`
	Ports       int   `json:"ports"`
	MemoryBytes int64 `json:"memory_bytes"`
	DiskBytes   int64 `json:"disk_bytes"`
	// FreeMemoryBytes is what the machine has left.
	FreeMemoryBytes int64 `json:"free_memory_bytes"`
}

// Status is the JSON of "flix lab status".
type Status struct {
	Name    string         `json:"name" yaml:"name"`
	Runtime string         `json:"runtime" yaml:"runtime"`
	Daemon  DaemonStatus   `json:"daemon" yaml:"daemon"`
	Regions []RegionStatus `json:"regions" yaml:"regions"`
	// Instances, RSSBytes: totals.
	Instances int   `json:"instances" yaml:"instances"`
	RSSBytes  int64 `json:"rss_bytes" yaml:"rss_bytes"`
	// Notes say what an operator should know beyond states: what of the WAN is
	// not emulated, and which regions are cut apart.
	Notes []string `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// DaemonStatus says whether the daemon runs.
type DaemonStatus struct {
	State   string    `json:"state" yaml:"state"` // running or dead
	PID     int       `json:"pid,omitempty" yaml:"pid,omitempty"`
	Started time.Time `json:"started,omitzero" yaml:"started,omitempty"`
	Version string    `json:"version,omitempty" yaml:"version,omitempty"`
}

// RegionStatus is one region.
type RegionStatus struct {
	Name  string `json:"name" yaml:"name"`
	State string `json:"state" yaml:"state"`
	// Share of the region's own clients that DNS sends to it, 0 to 1.
	Share     float64          `json:"share" yaml:"share"`
	Instances []InstanceStatus `json:"instances" yaml:"instances"`
}

// InstanceStatus is one instance.
type InstanceStatus struct {
	Name      string            `json:"name" yaml:"name"`
	Role      string            `json:"role" yaml:"role"`
	Zone      string            `json:"zone" yaml:"zone"`
	State     string            `json:"state" yaml:"state"`
	Started   time.Time         `json:"started,omitzero" yaml:"started,omitempty"`
	PID       int               `json:"pid,omitempty" yaml:"pid,omitempty"`
	Container string            `json:"container,omitempty" yaml:"container,omitempty"`
	Endpoints map[string]string `json:"endpoints" yaml:"endpoints"`
	Error     string            `json:"error,omitempty" yaml:"error,omitempty"`
	Restarts  int               `json:"restarts,omitempty" yaml:"restarts,omitempty"`
}

// DownRequest ends a lab.
type DownRequest struct {
	KeepData bool `json:"keep_data"`
}

// DownResult is the JSON of "flix lab down".
type DownResult struct {
	Name      string  `json:"name"`
	Processes int     `json:"processes"` // ended
	Kept      string  `json:"kept,omitempty"`
	MS        float64 `json:"ms"`
}

// World is what a client program needs to act as a viewer of the lab.
type World struct {
	Lab      string            `json:"lab"`
	Topology topology.Topology `json:"topology"`
	// DNS maps a region to its DNS server's address.
	DNS   map[string]string `json:"dns"`
	CAPEM []byte            `json:"ca_pem"`
	// Ports tell the WAN emulation where an address is.
	Ports []PortRange `json:"ports"`
	// Faults in force, with their ends: those of the network reach clients too.
	Faults []fault.Fault `json:"faults,omitempty"`
}

// PortRange is a range of ports that belongs to one region.
type PortRange struct {
	First  int    `json:"first"`
	Last   int    `json:"last"`
	Region string `json:"region"`
}
