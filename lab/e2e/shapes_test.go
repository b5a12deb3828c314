package e2e_test

import (
	"encoding/json"
	"testing"
	"time"
)

// The documented JSON of the commands, as a reader of the documentation would
// declare it.

type upResult struct {
	Name    string `json:"name"`
	Runtime string `json:"runtime"`
	Regions []struct {
		Name  string `json:"name"`
		State string `json:"state"`
	} `json:"regions"`
	Instances int `json:"instances"`
	Changes   struct {
		Added   int `json:"added"`
		Removed int `json:"removed"`
		Renewed int `json:"renewed"`
	} `json:"changes"`
	Steps    []step  `json:"steps"`
	ReadyMS  float64 `json:"ready_ms"`
	WholeMS  float64 `json:"whole_ms"`
	RSSBytes int64   `json:"rss_bytes"`
}

type step struct {
	Name string  `json:"name"`
	MS   float64 `json:"ms"`
}

type labStatus struct {
	Name    string `json:"name"`
	Runtime string `json:"runtime"`
	Daemon  struct {
		State string `json:"state"`
		PID   int    `json:"pid"`
	} `json:"daemon"`
	Regions   []regionStatus `json:"regions"`
	Instances int            `json:"instances"`
	RSSBytes  int64          `json:"rss_bytes"`
}

type regionStatus struct {
	Name      string           `json:"name"`
	State     string           `json:"state"`
	Share     float64          `json:"share"`
	Instances []instanceStatus `json:"instances"`
}

type instanceStatus struct {
	Name      string            `json:"name"`
	Role      string            `json:"role"`
	Zone      string            `json:"zone"`
	State     string            `json:"state"`
	Started   time.Time         `json:"started"`
	PID       int               `json:"pid"`
	Container string            `json:"container"`
	Endpoints map[string]string `json:"endpoints"`
}

type portList struct {
	Ports []struct {
		Instance string `json:"instance"`
		Port     string `json:"port"`
		Address  string `json:"address"`
		State    string `json:"state"`
	} `json:"ports"`
}

type playReport struct {
	TitleID    string `json:"title_id"`
	SessionID  string `json:"session_id"`
	Region     string `json:"region"`
	Gateway    string `json:"gateway"`
	ClientIP   string `json:"client_ip"`
	ISP        string `json:"isp"`
	Candidates []struct {
		Name string `json:"name"`
		Site string `json:"site"`
		Kind string `json:"kind"`
	} `json:"candidates"`
	Appliances []struct {
		Name  string `json:"name"`
		Site  string `json:"site"`
		Kind  string `json:"kind"`
		Bytes uint64 `json:"bytes"`
	} `json:"appliances"`
	PlayDelayMS   float64 `json:"play_delay_ms"`
	SecondsPlayed float64 `json:"seconds_played"`
	Rungs         []struct {
		ID       string  `json:"id"`
		Kbps     int     `json:"kbps"`
		Height   int     `json:"height"`
		Segments int     `json:"segments"`
		SSIM     float64 `json:"ssim"`
	} `json:"rungs"`
	MeanKbps          float64  `json:"mean_kbps"`
	MeanSSIM          float64  `json:"mean_ssim"`
	Switches          int      `json:"switches"`
	Rebuffers         int      `json:"rebuffers"`
	RebufferRatio     float64  `json:"rebuffer_ratio"`
	ApplianceSwitches int      `json:"appliance_switches"`
	Bytes             uint64   `json:"bytes"`
	Segments          int      `json:"segments"`
	ChecksumOK        bool     `json:"checksum_ok"`
	Errors            []string `json:"errors"`
	TraceID           string   `json:"trace_id"`
}

// playFields are what "flix play -o json" promises.
var playFields = []string{"title_id", "session_id", "region", "gateway", "client_ip", "isp", "candidates", "appliances",
	"play_delay_ms", "seconds_played", "rungs", "mean_kbps", "switches", "rebuffers", "rebuffer_ratio",
	"appliance_switches", "bytes", "segments", "checksum_ok", "errors", "trace_id"}

type fillStatus struct {
	Appliances        []applianceFill `json:"appliances"`
	UniqueBytes       uint64          `json:"unique_bytes"`
	OriginEgressBytes uint64          `json:"origin_egress_bytes"`
	OriginEgressRatio float64         `json:"origin_egress_ratio"`
}

type applianceFill struct {
	Name           string  `json:"name"`
	Site           string  `json:"site"`
	Kind           string  `json:"kind"`
	Assigned       int     `json:"assigned"`
	Held           int     `json:"held"`
	CacheFillBytes uint64  `json:"cache_fill_bytes"`
	TierFillBytes  uint64  `json:"tier_fill_bytes"`
	PeerFillBytes  uint64  `json:"peer_fill_bytes"`
	Percent        float64 `json:"percent"`
}

// appliance finds one appliance's fill by name.
func (f fillStatus) appliance(t testing.TB, name string) applianceFill {
	t.Helper()
	for _, a := range f.Appliances {
		if a.Name == name {
			return a
		}
	}
	t.Fatalf("fill status has no appliance %s", name)
	return applianceFill{}
}

type moveReport struct {
	ID                    string    `json:"id"`
	Region                string    `json:"region"`
	State                 string    `json:"state"`
	DryRun                bool      `json:"dry_run"`
	Started               time.Time `json:"started"`
	Steps                 []step    `json:"steps"`
	RTOMS                 float64   `json:"rto_ms"`
	PlaysDuring           int       `json:"plays_during"`
	PlaysFailed           int       `json:"plays_failed"`
	RequestsInRegionAfter uint64    `json:"requests_in_region_after"`
	Savers                []struct {
		Region string `json:"region"`
	} `json:"savers"`
}

type traceReport struct {
	TraceID string `json:"trace_id"`
	Spans   []span `json:"spans"`
}

type span struct {
	Name          string            `json:"name"`
	Instance      string            `json:"instance"`
	StartUnixNano int64             `json:"start_unix_nano"`
	EndUnixNano   int64             `json:"end_unix_nano"`
	Attributes    map[string]string `json:"attributes"`
}

func (s span) took() time.Duration { return time.Duration(s.EndUnixNano - s.StartUnixNano) }

type titleList struct {
	Titles []struct {
		ID        string  `json:"id"`
		Name      string  `json:"name"`
		DurationS float64 `json:"duration_s"`
		Rungs     []struct {
			Height int `json:"height"`
		} `json:"rungs"`
		Countries []string `json:"countries"`
		Live      bool     `json:"live"`
	} `json:"titles"`
}

// decode parses JSON output into v.
func decode(t testing.TB, r result, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		t.Fatalf("%s: no JSON on stdout: %v\n%s", r, err, r.story())
	}
}

// wantFields fails unless the JSON object holds every field.
func wantFields(t testing.TB, what string, raw []byte, fields ...string) {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("%s is not a JSON object: %v\n%s", what, err, raw)
	}
	for _, f := range fields {
		v, ok := m[f]
		if !ok {
			t.Errorf("%s lacks the field %q", what, f)
		} else if string(v) == "null" {
			t.Errorf("%s: field %q is null", what, f)
		}
	}
}

// elements returns the raw elements of a list field.
func elements(t testing.TB, raw []byte, field string) []json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatalf("not a JSON object: %v\n%s", err, raw)
	}
	var out []json.RawMessage
	if err := json.Unmarshal(m[field], &out); err != nil {
		t.Fatalf("field %q is not a list: %v", field, err)
	}
	return out
}
