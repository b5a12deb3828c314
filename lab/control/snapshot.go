package control

import (
	"time"
)

// SnapshotRequest names a snapshot to save.
type SnapshotRequest struct {
	Name string `json:"name"`
}

// Snapshot is the JSON of "flix lab snapshot save", and an element of that of
// "flix lab snapshot ls".
type Snapshot struct {
	Name    string    `json:"name"`
	Lab     string    `json:"lab"`
	Runtime string    `json:"runtime"`
	Created time.Time `json:"created"`
	// Version of the flix that saved it.
	Version string   `json:"version"`
	Regions []string `json:"regions"`
	Parts   int      `json:"parts"`
	Bytes   int64    `json:"bytes"`
	Dir     string   `json:"dir"`
	// OutageMS is how long viewers were without the lab for it, in milliseconds;
	// 0 if the lab was stopped anyway.
	OutageMS float64 `json:"outage_ms"`
	Steps    []Step  `json:"steps,omitempty"`
}

// CheckRequest writes into a lab as a client of a region for a while, and reads
// back what was acknowledged.
type CheckRequest struct {
	// Region of the client; "" is the first.
	Region  string  `json:"region,omitempty"`
	Seconds float64 `json:"seconds"`
	// Rate is how many writes of each kind begin per second.
	Rate float64 `json:"rate"`
	// WaitMS bounds the wait for replication at the end, in milliseconds.
	WaitMS float64 `json:"wait_ms"`
	// Log is the absolute path of the file of acknowledged writes, which must
	// not exist; "" makes one in the lab's folder.
	Log string `json:"log,omitempty"`
}

// Check is the JSON of "flix lab check".
type Check struct {
	ID      string    `json:"id"`
	Region  string    `json:"region"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Rate    float64   `json:"rate"`
	Log     string    `json:"log"`
	Verdict string    `json:"verdict"`
	// Kinds of writes: local, global and sql.
	Kinds     []CheckKind      `json:"kinds"`
	Regions   []CheckRegion    `json:"regions"`
	Staleness []CheckStaleness `json:"staleness"`
}

// CheckKind is what became of the writes of one kind.
type CheckKind struct {
	Kind         string `json:"kind"`
	Attempted    int    `json:"attempted"`
	Acknowledged int    `json:"acknowledged"`
	// Refused writes failed or got no answer: nobody was told that they are done.
	Refused int `json:"refused"`
	// Refusal is what the first of them was told.
	Refusal string `json:"refusal,omitempty"`
	// Lost writes were acknowledged, and no region that answers has them.
	Lost int `json:"lost"`
	// LostNewestAgeMS and LostOldestAgeMS are how long before the loss (the
	// last acknowledgement) the youngest and the oldest lost write were
	// acknowledged, in milliseconds.
	LostNewestAgeMS float64 `json:"lost_newest_age_ms"`
	LostOldestAgeMS float64 `json:"lost_oldest_age_ms"`
}

// CheckRegion is what one region has of the acknowledged writes.
type CheckRegion struct {
	Region string `json:"region"`
	// Up says that it answered when the writes were read back.
	Up bool `json:"up"`
	// Missing counts by kind what it did not have at the end of the wait.
	Missing map[string]int `json:"missing"`
}

// CheckStaleness is how long after their acknowledgement writes were read in
// another region, in milliseconds.
type CheckStaleness struct {
	Region  string `json:"region"`
	Kind    string `json:"kind"`
	Samples int    `json:"samples"`
	// Unseen samples were not there by the end.
	Unseen int     `json:"unseen"`
	P50MS  float64 `json:"p50_ms"`
	P99MS  float64 `json:"p99_ms"`
	MaxMS  float64 `json:"max_ms"`
}
