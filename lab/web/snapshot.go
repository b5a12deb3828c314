package web

import (
	"time"

	"github.com/flix-lab/flix/lab/control"
	"github.com/flix-lab/flix/topology"
)

// Snapshot is the lab as the map shows it.
type Snapshot struct {
	// Error says why nothing else is known.
	Error   string      `json:"error,omitempty"`
	Regions []RegionNow `json:"regions"`
	Plays   []PlayNow   `json:"plays"`
}

// RegionNow is a region's cloud and the appliances near it.
type RegionNow struct {
	Name string `json:"name"`
	// State is ready, starting, degraded, down, stopped or evacuated.
	State string `json:"state"`
	// Share of the region's own clients that DNS sends to it, 0 to 1.
	Share float64 `json:"share"`
	// Running of Instances of the cloud, appliances apart.
	Running    int            `json:"running"`
	Instances  int            `json:"instances"`
	Appliances []ApplianceNow `json:"appliances"`
}

// ApplianceNow is one appliance.
type ApplianceNow struct {
	Name  string `json:"name"`
	Site  string `json:"site"`
	State string `json:"state"` // running, stopped, gone, …
}

// PlayNow is a session that is under way.
type PlayNow struct {
	Session   string  `json:"session"`
	Title     string  `json:"title"`
	Region    string  `json:"region"` // that answers its reports
	ISP       string  `json:"isp"`
	Appliance string  `json:"appliance"`
	Rung      string  `json:"rung"`
	PositionS float64 `json:"position_s"`
}

// maxPlays bounds the plays of a snapshot: more than that no map can show.
const maxPlays = 200

// quiet is how many report intervals after its last report a session is taken
// to be over.
const quiet = 4

// snapshot joins what the daemon says of the lab.
func snapshot(st control.Status, sessions []control.Session, report time.Duration, now time.Time) Snapshot {
	out := Snapshot{Regions: []RegionNow{}, Plays: []PlayNow{}}
	for _, r := range st.Regions {
		n := RegionNow{Name: r.Name, State: r.State, Share: r.Share, Appliances: []ApplianceNow{}}
		for _, i := range r.Instances {
			if i.Role == string(topology.RoleOCA) {
				n.Appliances = append(n.Appliances, ApplianceNow{Name: i.Name, Site: i.Zone, State: i.State})
				continue
			}
			n.Instances++
			if i.State == "running" {
				n.Running++
			}
		}
		out.Regions = append(out.Regions, n)
	}
	for _, s := range sessions {
		if s.State != "playing" || now.Sub(s.Updated) > quiet*report || len(out.Plays) == maxPlays {
			continue
		}
		out.Plays = append(out.Plays, PlayNow{Session: s.Session, Title: s.Title, Region: s.Region, ISP: s.ISP, Appliance: s.Appliance, Rung: s.Rung, PositionS: s.PositionS})
	}
	return out
}
