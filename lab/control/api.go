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

// Changes counts instances that a converging up added and removed.
type Changes struct {
	Added   int `json:"added"`
	Removed int `json:"removed"`
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
	Budget Budget   `json:"budget"`
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

// FillStatus is the JSON of "flix fill status".
type FillStatus struct {
	Appliances []ApplianceFill `json:"appliances"`
	// UniqueBytes is the sum over regions of the distinct bytes assigned there.
	UniqueBytes uint64 `json:"unique_bytes"`
	// OriginEgressBytes is what S3 served for fill, retries included, as S3
	// counted it.
	OriginEgressBytes uint64 `json:"origin_egress_bytes"`
	// OriginEgressRatio is OriginEgressBytes / UniqueBytes; 1.0 is the least.
	OriginEgressRatio float64 `json:"origin_egress_ratio"`
	// FillTime is of everything that is missing.
	FillTime
	// Rules in force: pauses, pins and urgent titles.
	Rules []FillRule `json:"rules"`
	// Unheld are published titles that no appliance holds whole.
	Unheld []string `json:"unheld"`
	// Waiting are titles that may not be played yet: their date has not come, or
	// too few sites hold them.
	Waiting []string `json:"waiting"`
	// WaitingFor says of each of them what it waits for, in the same order.
	WaitingFor []WaitingTitle `json:"waiting_for"`
	// UnevenSites have appliances that announce different prefixes.
	UnevenSites []string `json:"uneven_sites"`
}

// WaitingTitle is a published title that may not be played yet.
type WaitingTitle struct {
	Title string `json:"title"`
	Why   string `json:"why"`
	// Available is its date, if it has one.
	Available time.Time `json:"available,omitzero"`
	// MinSites have to hold all of it, if it is more than one appliance; Sites do.
	MinSites int `json:"min_sites,omitempty"`
	Sites    int `json:"sites,omitempty"`
}

// ApplianceFill is one appliance's fill.
type ApplianceFill struct {
	Name   string `json:"name"`
	Region string `json:"region"`
	Site   string `json:"site"`
	Kind   string `json:"kind"` // isp or exchange
	// Assigned and Held count files.
	Assigned      int    `json:"assigned"`
	Held          int    `json:"held"`
	AssignedBytes uint64 `json:"assigned_bytes"`
	HeldBytes     uint64 `json:"held_bytes"`
	// Bytes filled over the appliance's life, by source.
	CacheFillBytes uint64  `json:"cache_fill_bytes"` // from S3
	TierFillBytes  uint64  `json:"tier_fill_bytes"`  // from another site
	PeerFillBytes  uint64  `json:"peer_fill_bytes"`  // inside the site
	Percent        float64 `json:"percent"`          // of the assigned bytes
	Healthy        bool    `json:"healthy"`
	// Blocked says why nothing is ordered now.
	Blocked string `json:"blocked,omitempty"`
	FillTime
}

// FillRunRequest starts fills.
type FillRunRequest struct {
	// Now fills outside the window too.
	Now bool `json:"now"`
	// Deep re-reads every stored byte instead of comparing sizes.
	Deep bool `json:"deep"`
	// Title, if set, is made urgent: it goes first, outside the window too, in
	// Scope ("" is the lab).
	Title string `json:"title,omitempty"`
	Scope string `json:"scope,omitempty"`
}

// FillRunResult says what a run set going.
type FillRunResult struct {
	Appliances int `json:"appliances"`
	Orders     int `json:"orders"`
	// Followed to the end: the bytes filled meanwhile, how long that took, the
	// lower bound computed at the start, and the two's ratio.
	FilledBytes uint64  `json:"filled_bytes,omitempty"`
	MS          float64 `json:"ms,omitempty"`
	BoundMS     int64   `json:"bound_ms,omitempty"`
	BoundBy     string  `json:"bound_by,omitempty"`
	Ratio       float64 `json:"ratio,omitempty"`
}

// Title is a title of the catalogue.
type Title struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Synopsis  string   `json:"synopsis,omitempty"`
	Genres    []string `json:"genres,omitempty"`
	Year      int      `json:"year,omitempty"`
	Poster    string   `json:"poster,omitempty"`
	DurationS float64  `json:"duration_s"`
	Rungs     []Rung   `json:"rungs"`
	Countries []string `json:"countries"`
	// Live says that it may be played: it is published, its date has come, and as
	// many sites as it wants hold all of it.
	Live bool `json:"live"`
	// Available is its date, if it has one; MinSites how many sites have to hold
	// all of it, if it is more than one appliance.
	Available time.Time `json:"available,omitzero"`
	MinSites  int       `json:"min_sites,omitempty"`
	// Waiting says why it is not live.
	Waiting string `json:"waiting,omitempty"`
}

// Rung is one video quality of a title.
type Rung struct {
	ID     string `json:"id"`
	Kbps   int    `json:"kbps"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// Titles is the JSON of "flix title ls" and "flix title search".
type Titles struct {
	Titles []Title `json:"titles"`
}

// AddTitleRequest starts a transcode-and-fill job. The file is read by the
// daemon, which runs as the same user on the same machine.
type AddTitleRequest struct {
	File      string   `json:"file"`
	Name      string   `json:"name"`
	ID        string   `json:"id,omitempty"`
	Synopsis  string   `json:"synopsis,omitempty"`
	Countries []string `json:"countries,omitempty"`
	// Available is the date before which nobody may play it; zero: at once.
	Available time.Time `json:"available,omitzero"`
	// MinSites is how many sites have to hold all of it before anybody may; 0:
	// one appliance will do.
	MinSites int `json:"min_sites,omitempty"`
}

// Job is a transcode-and-fill job.
type Job struct {
	ID      string    `json:"id"`
	Title   string    `json:"title_id"`
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Percent float64   `json:"percent"`
	Region  string    `json:"region"`
	Error   string    `json:"error,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Steps   []Step    `json:"steps,omitempty"`
}

// AddTitleResult is the JSON of "flix title add".
type AddTitleResult struct {
	Title Title  `json:"title"`
	Job   Job    `json:"job"`
	Steps []Step `json:"steps"`
	// Appliances that hold the whole title.
	Appliances int     `json:"appliances"`
	MS         float64 `json:"ms"`
}

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
	Capacity Capacity `json:"capacity"`
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

// ServiceCapacity is one service's part of a capacity check, in requests per
// second over all savers.
type ServiceCapacity struct {
	Role   string  `json:"role"`
	Demand float64 `json:"demand_rps"`
	Used   float64 `json:"used_rps"`
	// PerInstance is what one instance answers at most: what it may have under
	// way ÷ the mean time of a request.
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

// Trace is the spans of one play.
type Trace struct {
	ID    string `json:"trace_id"`
	Spans []Span `json:"spans"`
}

// Span is one operation of a trace.
type Span struct {
	TraceID       string            `json:"trace_id"`
	SpanID        string            `json:"span_id"`
	ParentID      string            `json:"parent_id,omitempty"`
	Name          string            `json:"name"`
	Kind          string            `json:"kind"`
	Instance      string            `json:"instance"`
	Region        string            `json:"region,omitempty"`
	StartUnixNano int64             `json:"start_unix_nano"`
	EndUnixNano   int64             `json:"end_unix_nano"`
	Error         string            `json:"error,omitempty"`
	Attributes    map[string]string `json:"attributes,omitempty"`
}

// Session is a playback session as the pipeline saw it last.
type Session struct {
	Session   string    `json:"session"`
	Title     string    `json:"title"`
	Member    string    `json:"member"`
	Region    string    `json:"region"`
	ISP       string    `json:"isp"`
	Appliance string    `json:"appliance"`
	Rung      string    `json:"rung"`
	PositionS float64   `json:"position_s"`
	State     string    `json:"state"`
	Bytes     uint64    `json:"bytes"`
	RebufferS float64   `json:"rebuffer_s"`
	Updated   time.Time `json:"updated"`
}

// CommandQuery picks resilience commands; "" is any.
type CommandQuery struct {
	Name     string `json:"name,omitempty"`
	Region   string `json:"region,omitempty"`
	Role     string `json:"role,omitempty"`
	Instance string `json:"instance,omitempty"`
}

// CommandRequest sets properties of the commands of a name, by their names in
// Hystrix or their short ones; an empty value takes one back.
type CommandRequest struct {
	CommandQuery
	Properties map[string]string `json:"properties"`
}

// Commands is the JSON of "flix command ls".
type Commands struct {
	// Commands by role, name and instance.
	Commands []Command `json:"commands"`
	// Silent are instances that do not answer.
	Silent []string `json:"silent,omitempty"`
}

// Command is one resilience command in one instance.
type Command struct {
	Name string `json:"name"`
	// Group is the dependency that the command calls.
	Group    string `json:"group"`
	Role     string `json:"role"`
	Region   string `json:"region"`
	Zone     string `json:"zone"`
	Instance string `json:"instance"`
	// Breaker is closed, open or half_open; Forced is what holds it: open,
	// closed or nothing.
	Breaker string `json:"breaker"`
	Forced  string `json:"forced,omitempty"`
	// InFlight calls are under way, of MaxConcurrent; Limit is the adaptive
	// limit, 0 if there is none.
	InFlight      int `json:"in_flight"`
	MaxConcurrent int `json:"max_concurrent"`
	Limit         int `json:"limit,omitempty"`
	// WindowMS is the rolling time of the counts, Rate the calls per second in
	// it, WindowCalls and WindowFailures what the breaker judges by.
	WindowMS       float64 `json:"window_ms"`
	Rate           float64 `json:"rate"`
	WindowCalls    int64   `json:"window_calls"`
	WindowFailures int64   `json:"window_failures"`
	ErrorPercent   float64 `json:"error_percent"`
	// P50MS to MaxMS are times of the call itself over six windows.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	MaxMS float64 `json:"max_ms"`
	// Window and Events count what became of the calls, within the window and
	// since the instance started.
	Window map[string]uint64 `json:"window"`
	Events map[string]uint64 `json:"events"`
	// Properties it goes by now, by their names in Hystrix.
	Properties map[string]string `json:"properties"`
}

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
