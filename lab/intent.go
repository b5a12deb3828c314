package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/flix-lab/flix/lab/autoscale"
	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/topology"
)

// intent is what is wanted of a lab. It is on disk before anything acts on it,
// so that whatever dies, the next command converges to the same state.
type intent struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"` // of this incarnation
	Runtime  string            `json:"runtime"`
	Topology topology.Topology `json:"topology"`
	// Past are the intervals that the topology had before, the oldest first: what
	// started then has them still.
	Past []pastTiming `json:"past_timing,omitempty"`
	// Extra are instances beyond the topology: scaled up for an evacuation.
	Extra []topology.Instance `json:"extra,omitempty"`
	// Dark are the extra instances that take no work yet: the registry has them
	// as STARTING until they are lit.
	Dark map[string]bool `json:"dark,omitempty"`
	// Stopped instances stay down until they are started.
	Stopped map[string]bool `json:"stopped,omitempty"`
	// Halted says that the lab as a whole was stopped.
	Halted bool `json:"halted,omitempty"`
	// Properties by role, applied to every instance of it in a region:
	// region → role → name → value.
	Properties map[string]map[topology.Role]map[string]string `json:"properties,omitempty"`
	// Evacuated regions, and since which evacuation.
	Evacuated map[string]string `json:"evacuated,omitempty"`
	// Cuts are the partitions of the WAN; those whose time is over count no more.
	Cuts []runtime.Cut `json:"cuts,omitempty"`
	// Faults are those in force: they are here before they act.
	Faults []fault.Fault `json:"faults,omitempty"`
	// Tables are the versions of the gateways' routing table, the oldest first;
	// none while it is the built-in one.
	Tables []routeTable `json:"tables,omitempty"`
	// Grown are the extra instances that the autoscaler added.
	Grown map[string]bool `json:"grown,omitempty"`
	// Policies of the autoscaler, by region and role.
	Policies map[string]map[topology.Role]autoscale.Policy `json:"policies,omitempty"`
	// IdleStop is how long nobody may ask for anything before the lab stops; 0
	// is never.
	IdleStop time.Duration `json:"idle_stop,omitempty"`
	// Watching says that a sick region is to be evacuated.
	Watching bool `json:"watching,omitempty"`
	// EgressOfOthers is what the origin egress counts beyond the stores' counters, in
	// bytes: below 0 for what they served to appliances that are gone.
	EgressOfOthers int64 `json:"egress_of_others,omitempty"`
	// Moving is the evacuation in progress, for resumption after a crash.
	Moving *moving `json:"moving,omitempty"`
}

// moving is an evacuation or failback that has begun, and not come to an end
// that leaves nothing half-moved.
type moving struct {
	ID     string `json:"id"`
	Verb   string `json:"verb"`
	Region string `json:"region"`
	// Started is when it first was: what it took counts from there.
	Started time.Time `json:"started,omitzero"`
}

func intentPath(dir string) string { return filepath.Join(dir, "intent.json") }

// readIntent returns nil when the lab was never up.
func readIntent(dir string) (*intent, error) {
	b, err := os.ReadFile(intentPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(err)
	}
	var i intent
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, fmt.Errorf("intent %s is damaged: %w", intentPath(dir), err)
	}
	return &i, nil
}

// Declared is the topology that a lab is to have, nil if there is no lab.
func Declared(p Paths) (*topology.Topology, error) {
	i, err := readIntent(p.Dir)
	if i == nil || err != nil {
		return nil, err
	}
	return &i.Topology, nil
}

func (i *intent) write(dir string) error {
	b, err := json.MarshalIndent(i, "", " ")
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	return writeFile(intentPath(dir), b)
}

// writeFile replaces a file as a whole.
func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// clone copies the intent, so that a reader of the old one never sees a change.
func (i *intent) clone() (*intent, error) {
	b, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("intent: %w", err)
	}
	next := new(intent)
	if err := json.Unmarshal(b, next); err != nil {
		return nil, fmt.Errorf("intent: %w", err)
	}
	return next, nil
}

// instances is everything that is wanted: the topology's, and the extra ones
// of regions that are still there.
func (i *intent) instances() []topology.Instance {
	all := i.Topology.Instances()
	for _, x := range i.Extra {
		if _, ok := i.Topology.Region(x.Region); ok {
			all = append(all, x)
		}
	}
	return all
}

// setProperty records a property of a role in a region; "" unsets it.
func (i *intent) setProperty(region string, role topology.Role, name, value string) {
	if i.Properties == nil {
		i.Properties = map[string]map[topology.Role]map[string]string{}
	}
	if i.Properties[region] == nil {
		i.Properties[region] = map[topology.Role]map[string]string{}
	}
	if i.Properties[region][role] == nil {
		i.Properties[region][role] = map[string]string{}
	}
	if value == "" {
		delete(i.Properties[region][role], name)
		return
	}
	i.Properties[region][role][name] = value
}
