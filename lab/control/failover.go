package control

import (
	"time"
)

// FailoverRequest evacuates or restores a region.
type FailoverRequest struct {
	Region string `json:"region"`
	DryRun bool   `json:"dry_run,omitempty"`
	// Pace is fast or safe; "" is fast.
	Pace string `json:"pace,omitempty"`
	// Unchecked leaves out the writes that are made meanwhile, and read back.
	Unchecked bool `json:"unchecked,omitempty"`
}

// Failover is the report of an evacuation or a failback.
type Failover struct {
	ID     string `json:"id"`
	Verb   string `json:"verb"` // failover or failback
	Region string `json:"region"`
	DryRun bool   `json:"dry_run,omitempty"`
	// State is planned, running, done, failed or rolled_back.
	State   string    `json:"state"`
	Started time.Time `json:"started"`
	Steps   []Step    `json:"steps"`
	// RTOMS is the time from the start to the last client request that the
	// region answered, in milliseconds.
	RTOMS float64 `json:"rto_ms"`
	// PlaysDuring counts plays tried while it ran, PlaysFailed those that failed.
	PlaysDuring int `json:"plays_during"`
	PlaysFailed int `json:"plays_failed"`
	// RequestsInRegionAfter counts client requests the region answered after it
	// was declared empty.
	RequestsInRegionAfter uint64   `json:"requests_in_region_after"`
	Savers                []Saver  `json:"savers"`
	Shares                []string `json:"shares,omitempty"`
	Error                 string   `json:"error,omitempty"`
	// Capacity explains the capacity check.
	// Capacity is absent where no region takes over another's traffic.
	Capacity Capacity `json:"capacity,omitzero"`
}

// Saver is a region that takes the traffic of an evacuated one.
type Saver struct {
	Region string   `json:"region"`
	Share  float64  `json:"share"`
	Added  []string `json:"added"` // instances started for it
}

// Capacity is the arithmetic of the capacity check, in requests per second at
// the gateways.
type Capacity struct {
	// Demand is what the leaving region serves now.
	Demand float64 `json:"demand_rps"`
	// Used is what the savers serve now, Limit what they can after scaling.
	Used  float64 `json:"used_rps"`
	Limit float64 `json:"limit_rps"`
	Fits  bool    `json:"fits"`
	// Services explains it service by service.
	Services []ServiceCapacity `json:"services"`
}

// IsZero says that nothing was computed.
func (c Capacity) IsZero() bool { return c.Limit == 0 && c.Demand == 0 && len(c.Services) == 0 }

// ServiceCapacity is one service's part of a capacity check, in requests per
// second over all savers.
type ServiceCapacity struct {
	Role   string  `json:"role"`
	Demand float64 `json:"demand_rps"`
	Used   float64 `json:"used_rps"`
	// PerInstance is what one instance answers at most by its limit: AtOnce, the
	// requests that it may have under way, ÷ MeanMS, the mean time of one in
	// milliseconds. Processors are not counted: all regions share the machine's.
	AtOnce      float64 `json:"at_once"`
	MeanMS      float64 `json:"mean_ms"`
	PerInstance float64 `json:"per_instance_rps"`
	// Have, Need and Add count instances at the savers; Need is with one to
	// spare in each.
	Have int `json:"have"`
	Need int `json:"need"`
	Add  int `json:"add"`
	// Limit of all of them, LimitLessOne with one lost at each saver.
	Limit        float64 `json:"limit_rps"`
	LimitLessOne float64 `json:"limit_less_one_rps"`
	Fits         bool    `json:"fits"`
	// Default says what was assumed because nothing was measured.
	Default string `json:"default,omitempty"`
}
