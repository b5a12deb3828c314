package control

import (
	"strings"
	"time"

	"github.com/flix-lab/flix/services/cachecontrol"
)

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
	// IgnoredPrefixes are announced by appliances and draw nobody.
	IgnoredPrefixes []IgnoredPrefix `json:"ignored_prefixes"`
}

// IgnoredPrefix is a default route, or one cut into a few parts, that appliances of
// a site announce: it says where their own packets go, not whom they can serve.
type IgnoredPrefix struct {
	Site   string `json:"site"`
	Prefix string `json:"prefix"`
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

// OutsideWindow says that nothing is ordered until the site's fill window opens.
func (a ApplianceFill) OutsideWindow() bool {
	return strings.HasPrefix(a.Blocked, cachecontrol.WindowClosed)
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
