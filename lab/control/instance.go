package control

import (
	"time"
)

// InstanceRequest names an instance to stop, start or kill.
type InstanceRequest struct {
	Name string `json:"name"`
}

// WAN is the answer of "flix lab wan".
type WAN struct {
	Links []WANLink `json:"links" yaml:"links"`
	// Shaped names the kinds of traffic that the links' delays apply to.
	Shaped []string `json:"shaped" yaml:"shaped"`
	// Unshaped is what crosses regions without feeling them, and why.
	Unshaped []string `json:"unshaped,omitempty" yaml:"unshaped,omitempty"`
}

// WANLink is what lies between two regions.
type WANLink struct {
	Between [2]string `json:"between" yaml:"between,flow"`
	RTTMS   float64   `json:"rtt_ms" yaml:"rtt_ms"`
	// CutUntil is when a partition between them ends; nil while they reach one
	// another.
	CutUntil *time.Time `json:"cut_until,omitempty" yaml:"cut_until,omitempty"`
}

// CutRequest cuts two regions apart for a time, or heals all cuts.
type CutRequest struct {
	Between [2]string `json:"between"`
	ForMS   float64   `json:"for_ms"`
	Heal    bool      `json:"heal,omitempty"`
}

// Switched is the JSON of "flix lab stop", "start" and "kill".
type Switched struct {
	Lab string `json:"lab"`
	// State is what the instances are in now: stopped, running or killed.
	State     string   `json:"state"`
	Instances []string `json:"instances"`
	Steps     []Step   `json:"steps"`
	MS        float64  `json:"ms"`
}

// Diff is the JSON of "flix lab diff".
type Diff struct {
	Lab     string `json:"lab"`
	Runtime string `json:"runtime"`
	// Equal says that what is there is what is wanted.
	Equal       bool         `json:"equal"`
	Differences []Difference `json:"differences"`
}

// Difference is one point in which a lab is not as it is wanted.
type Difference struct {
	// Kind is missing, stopped, failed, ended, unwanted or changed.
	Kind string `json:"kind"`
	// Of is what it is about: instance, host, container, network or volume.
	Of string `json:"of"`
	// Name of the instance, host, container, network or volume.
	Name string `json:"name"`
	// Text says what is different.
	Text string `json:"text"`
	// Remedy makes it equal.
	Remedy string `json:"remedy"`
}
