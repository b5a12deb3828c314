package evacuate

import (
	"context"
	"time"

	"github.com/flix-lab/flix/topology"
)

// Edge is what a region's gateways have counted.
type Edge struct {
	// ClientRequests answered for clients of this region's edge; LastClient is
	// when the last one was.
	ClientRequests uint64
	LastClient     time.Time
	// Inflight requests now.
	Inflight int
	// Gateways that answered the question.
	Gateways int
	// BusySeconds is the sum of the time spent on requests, Answered their
	// number, since the gateways started.
	BusySeconds float64
	Answered    uint64
	// Failed are those of Answered that the region itself could not serve.
	Failed uint64
	// Plays are answers to clients that asked for a play to begin, PlaysFailed
	// those of them that nobody could serve.
	Plays, PlaysFailed uint64
	// Concurrency is how many requests the region's gateways may have in
	// flight to one API at once.
	Concurrency int
}

// Adoption says who goes on with a region's events.
type Adoption struct {
	// Saver is "" when there is no pipeline to adopt, or nobody to do it.
	Saver string
	// Waiting events were not handled yet.
	Waiting int64
	// Lost says that the region's log is out of reach: the saver goes on from
	// its last checkpoint.
	Lost bool
}

// Planet is the lab as an evacuation needs it. Every setter is idempotent, and
// what it set survives the death of the daemon.
type Planet interface {
	Topology() topology.Topology
	// Evacuated says which regions are empty already.
	Evacuated() map[string]bool
	// Lacks says of each of some regions, by one look, which role has no instance
	// that runs there; "" is none.
	Lacks(ctx context.Context, regions []string) (map[string]string, error)
	// Edge sums up a region's gateways.
	Edge(ctx context.Context, region string) (Edge, error)
	// Services looks at the services of some roles in a region.
	Services(ctx context.Context, region string, roles []topology.Role) (map[topology.Role]Service, error)
	// Caches looks at a region's caches, WarmCache fills a zone's from a sibling.
	Caches(ctx context.Context, region string) (Caches, error)
	WarmCache(ctx context.Context, region, zone string) error
	// CaughtUp returns once a region has what is written in another one, or
	// says what it does not have.
	CaughtUp(ctx context.Context, region, from string) error
	// SetWeight sets the share of its own clients that DNS sends to a region,
	// at every DNS server of the lab.
	SetWeight(ctx context.Context, region string, weight float64) error
	// SetLeaving says at every DNS server of the lab whether a region's viewers are
	// about to be moved: answers that lead there are then kept for the topology's
	// Timing.LeavingTTL only.
	SetLeaving(ctx context.Context, region string, leaving bool) error
	// SetProxy makes a region's gateways send a share of requests to savers.
	SetProxy(ctx context.Context, region string, share float64, savers []string) error
	// SetDrain makes a region's gateways close their connections.
	SetDrain(ctx context.Context, region string, on bool) error
	// Scale has so many instances of each role in each region beyond their own: it
	// starts what there is not yet of them, and returns the names of all by region
	// once the registries show them. New ones are dark: registered as STARTING,
	// which gets them no work.
	Scale(ctx context.Context, add map[string]map[topology.Role]int) (names map[string][]string, err error)
	// Light has the instances of Scale that answer take work, in all regions: the
	// registry shows them as UP when it returns. It fails, and lights none, if one
	// does not answer.
	Light(ctx context.Context) (lit int, err error)
	// Unscale ends what Scale started in all regions.
	Unscale(ctx context.Context) error
	// MovePrimary makes a region's SQL node the primary; moved is false when
	// it was already, and took writes. Nothing that was committed is lost. Cut
	// short, it leaves the old primary fenced, and is made good by the next.
	MovePrimary(ctx context.Context, to string) (moved bool, err error)
	// PrimaryRegion holds the SQL primary. lost says that it does not answer:
	// it is then the first region whose node is silent while no other takes
	// writes.
	PrimaryRegion(ctx context.Context) (region string, lost bool, err error)
	// TakePrimary replaces a primary that is lost: the one of some regions whose
	// node has applied the most becomes it, at its own position. What no region
	// in reach has is lost; a confirmed commit is in one.
	TakePrimary(ctx context.Context, of []string) (to string, err error)
	// AdoptEvents has a region's stream pipeline stand still, and the first of
	// some savers that has one go on with its events.
	AdoptEvents(ctx context.Context, region string, savers []string) (Adoption, error)
	// ReturnEvents is the reverse: the region goes on behind what was handled
	// elsewhere, in moved partitions.
	ReturnEvents(ctx context.Context, region string) (moved int, err error)
	// Play plays a few seconds as a viewer near a region. PlayIn fails too if
	// another region answers.
	Play(ctx context.Context, near string) error
	PlayIn(ctx context.Context, region string) error
	// SetEvacuated records that a region is empty, or not any more.
	SetEvacuated(region string, id string) error
}
