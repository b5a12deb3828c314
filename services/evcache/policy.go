package evcache

import (
	"fmt"

	"github.com/flix-lab/flix/services"
)

// Policy says how many zones must have taken a write before it returns; the
// others get it all the same. It is EVCache's latch policy. Zones that are
// write-only are written and not waited for.
type Policy int

// The policies. The zero value is AllMinusOne.
const (
	// AllMinusOne waits for every zone but one; for the only zone if there is
	// one.
	AllMinusOne Policy = iota
	// None waits for no zone and reports no error of a server.
	None
	// One waits for the first zone.
	One
	// Quorum waits for more than half of the zones.
	Quorum
	// All waits for every zone.
	All
)

// need returns how many of n zones a write waits for.
func (p Policy) need(n int) int {
	switch p {
	case None:
		return 0
	case One:
		return min(1, n)
	case Quorum:
		if n == 0 {
			return 0
		}
		return n/2 + 1
	case All:
		return n
	}
	return max(min(1, n), n-1)
}

// policyNames are the policies as a person writes them, by value.
func policyNames() []string { return []string{"all-minus-one", "none", "one", "quorum", "all"} }

// String names the policy.
func (p Policy) String() string {
	if names := policyNames(); p >= 0 && int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("policy %d", int(p))
}

// ParsePolicy reads a policy's name; "" is AllMinusOne.
func ParsePolicy(s string) (Policy, error) {
	for i, n := range policyNames() {
		if s == n || s == "" {
			return Policy(i), nil
		}
	}
	return 0, services.Errorf(services.Invalid, "policy %q is none", s).WithRemedy("use one of %s", services.List(policyNames()))
}

// Mode says what a zone is used for. It is switched while clients run.
type Mode int

// The modes. The zero value is ReadWrite.
const (
	ReadWrite Mode = iota
	// WriteOnly zones get every write and no read: a new zone that is being
	// warmed, or one that shall leave.
	WriteOnly
	// ReadOnly zones are read and get no write: one that is being moved.
	ReadOnly
)

func modeNames() []string { return []string{"read-write", "write-only", "read-only"} }

// String names the mode.
func (m Mode) String() string {
	if names := modeNames(); m >= 0 && int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("mode %d", int(m))
}

// ParseMode reads a mode's name; "" is ReadWrite.
func ParseMode(s string) (Mode, error) {
	for i, n := range modeNames() {
		if s == n || s == "" {
			return Mode(i), nil
		}
	}
	return 0, services.Errorf(services.Invalid, "mode %q is none", s).WithRemedy("use one of %s", services.List(modeNames()))
}

// Replication says what other regions are told of writes.
type Replication int

// The replications. The zero value is ReplicateNone.
const (
	// ReplicateNone tells nothing.
	ReplicateNone Replication = iota
	// ReplicateDeletes tells of deletions alone.
	ReplicateDeletes
	// Invalidate has other regions drop what is written here, so that they read
	// it anew.
	Invalidate
	// ReplicateValues has other regions store what is written here.
	ReplicateValues
)

func replicationNames() []string { return []string{"none", "deletes", "invalidate", "values"} }

// String names the replication.
func (r Replication) String() string {
	if names := replicationNames(); r >= 0 && int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("replication %d", int(r))
}

// ParseReplication reads a replication's name; "" is ReplicateNone.
func ParseReplication(s string) (Replication, error) {
	for i, n := range replicationNames() {
		if s == n || s == "" {
			return Replication(i), nil
		}
	}
	return 0, services.Errorf(services.Invalid, "replication %q is none", s).WithRemedy("use one of %s", services.List(replicationNames()))
}
