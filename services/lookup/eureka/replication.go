package eureka

import (
	"encoding/json"
	"fmt"
)

// What a registry tells its peers: the actions of a batch.
const (
	ActRegister       = "Register"
	ActHeartbeat      = "Heartbeat"
	ActCancel         = "Cancel"
	ActStatusUpdate   = "StatusUpdate"
	ActDeleteOverride = "DeleteStatusOverride"
)

// Replication is one item of a batch (POST /peerreplication/batch/).
type Replication struct {
	App string `json:"appName"`
	ID  string `json:"id"`
	// LastDirty of the instance the sender knows; nil when it does not say.
	LastDirty        *Num      `json:"lastDirtyTimestamp,omitempty"`
	OverriddenStatus string    `json:"overriddenStatus,omitempty"`
	Status           string    `json:"status,omitempty"`
	Instance         *Instance `json:"instanceInfo,omitempty"`
	Action           string    `json:"action"`
}

// Batch is the body of a replication request.
type Batch struct {
	List []Replication `json:"replicationList"`
}

// Outcome is what became of one item: an HTTP status and, at 409, the
// receiver's instance.
type Outcome struct {
	Status   int       `json:"statusCode"`
	Instance *Instance `json:"responseEntity,omitempty"`
}

// Outcomes is the answer to a batch, in its order.
type Outcomes struct {
	List []Outcome `json:"responseList"`
}

// DecodeBatch reads the body of a replication request.
func DecodeBatch(b []byte) (*Batch, error) {
	var out Batch
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, trouble("replication", err)
	}
	if out.List == nil {
		return nil, fmt.Errorf(`replication: the document has no "replicationList"`)
	}
	return &out, nil
}

// DecodeOutcomes reads the answer to a batch.
func DecodeOutcomes(b []byte) (*Outcomes, error) {
	var out Outcomes
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, trouble("replication", err)
	}
	return &out, nil
}
