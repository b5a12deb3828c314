package cachecontrol

import (
	"slices"
	"time"

	"github.com/flix-lab/flix/topology"
)

// presence says what the planner knows of an appliance's existence.
type presence int

const (
	// expected: declared but not heard of yet. Until its grace ends it counts
	// as a master, so that the order in which appliances start up does not
	// change who fetches what.
	expected presence = iota
	present
	// absent: declared, and out.
	absent
)

// node is an appliance as the planner sees it.
type node struct {
	id   string
	hash uint64
	site *site

	presence presence
	declared bool
	grace    time.Time // end of expected
	ill      string    // why it may not fill, see fit; "" if it may
	full     bool      // it has no room, and is given nothing new
	// connected to this cache control, which thus plans for it.
	connected bool
	capacity  uint64
	bandwidth uint64 // bits per second
	fill      uint64 // bits per second it fills at most
	fillURL   string
	// paused by a rule: it is given nothing new.
	paused bool

	held bitset // by file number
	// extra are stored files that no published asset names.
	extra map[fileRef]uint64
	used  uint64 // bytes of everything stored
	// evicting is ordered to go and not reported gone yet.
	evicting      map[fileRef]uint64
	evictingBytes uint64

	assigned *assignment
	// ready holds ranks of missing files that may have a source; a file that
	// has to wait leaves it until something changes.
	ready bitset
	// awake says that ready may not be empty.
	awake   bool
	flights map[int32]*flight
	setback map[int32]*setback
	// urgent lifts the fill window until nothing is missing.
	urgent bool
}

// flight is an order that was given and not answered.
type flight struct {
	deadline time.Time
	bytes    uint64
	// late says that the order was repeated once already.
	late bool
	// repeat asks to give the order again, on a new stream.
	repeat bool
	// from is the source that was named first.
	from source
}

// setback is what went wrong with one file on one appliance.
type setback struct {
	failures int
	retry    time.Time
	// refused names appliances whose copy proved bad or unreachable, until when.
	refused map[string]time.Time
}

// site is the appliances of one place.
type site struct {
	name, region string
	kind         topology.SiteKind
	nodes        []*node // by id
	// clock is what its local time is ahead of UTC, if that is declared.
	clock   time.Duration
	clocked bool

	// ever are the files that an appliance of the site holds or held: what is not
	// in it nobody here can give.
	ever bitset

	feed      *feed
	placement *placement
	// unplaced: the assignments of its appliances are out of date.
	unplaced bool
	// progress is when it last was given an order or stored something: others
	// wait for it only so long.
	progress time.Time
	// given up: it made no progress for too long, and others were told.
	stalled bool
	// isOpen: its fill window was open when last looked at.
	isOpen bool
}

// nodeInfo is what an appliance says of itself.
type nodeInfo struct {
	id, region, site string
	kind             topology.SiteKind
	capacity         uint64
	bandwidth        uint64
	fill             uint64
	fillURL          string
	ill              string
	full             bool
	connected        bool
}

// heldFile is a stored file and its size; the size may be unknown (zero) for
// an appliance that is connected elsewhere.
type heldFile struct {
	ref  fileRef
	size uint64
}

func (s *site) add(n *node) {
	n.site = s
	s.nodes = append(s.nodes, n)
	slices.SortFunc(s.nodes, func(a, b *node) int { return compareStrings(a.id, b.id) })
}

func (s *site) remove(n *node) {
	s.nodes = slices.DeleteFunc(s.nodes, func(m *node) bool { return m == n })
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// hopeful says whether the appliance may be counted on to fetch a file.
func (n *node) hopeful() bool {
	return n.takes() && (n.presence == expected || n.presence == present && n.well())
}

// well says whether it may fill, and be filled from.
func (n *node) well() bool { return n.ill == "" }

// serves says whether others may fill from the appliance.
func (n *node) serves() bool { return n.presence == present && n.well() && n.fillURL != "" }

// plans says whether the appliance may be given orders here.
func (n *node) plans() bool { return n.presence == present && n.well() && n.connected && n.takes() }

// takes says whether it may be given anything new, as far as rules and its disk go.
func (n *node) takes() bool { return !n.paused && !n.full }

func (n *node) setbackOf(f int32) *setback {
	s := n.setback[f]
	if s == nil {
		s = &setback{}
		if n.setback == nil {
			n.setback = map[int32]*setback{}
		}
		n.setback[f] = s
	}
	return s
}

// refuses says whether source proved useless for the file a moment ago.
func (n *node) refuses(f int32, source string, now time.Time) bool {
	s := n.setback[f]
	return s != nil && now.Before(s.refused[source])
}

func (n *node) inFlightBytes() (total uint64) {
	for _, f := range n.flights {
		total += f.bytes
	}
	return total
}
