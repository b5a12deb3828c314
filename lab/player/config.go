package player

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/player/abr/sim"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

// Config is what every play of a Player shares.
type Config struct {
	// Resolvers are the lab's DNS servers. A play asks the nearest region's
	// first; within one region the order is kept.
	Resolvers []Resolver
	// RootCAs hold the lab's certificate authority.
	RootCAs *x509.CertPool
	// Topology of the lab: ISPs and their prefixes, distances, timing.
	Topology topology.Topology
	// Dial returns the dialer for traffic that starts in a region (see
	// wan.Table.Dialer). nil dials with the distances of Topology unknown,
	// that is, without delay.
	Dial func(fromRegion string) services.DialFunc
	// DialISP is Dial where the client's ISP matters, too; nil when it does not.
	DialISP func(fromRegion, isp string) services.DialFunc
	// Tel records the player's own spans and log.
	Tel *telemetry.Telemetry
	// Observe is called about once per second of wall time, and once at the
	// end, from one goroutine at a time; it may be nil.
	Observe func(Progress)
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
}

// Resolver is one DNS server of the lab.
type Resolver struct {
	// Region it stands in.
	Region string
	// Address as host:port, UDP and TCP.
	Address string
}

// Options of one play.
type Options struct {
	// Title is a name or an id; letter case does not matter.
	Title string
	// Email and Password sign in. They are not used when Token is set.
	Email, Password string
	// Token is a ready member token.
	Token string
	// Country chooses an ISP of that country (ISO 3166-1 alpha-2) when neither
	// ISP nor IP is given.
	Country string
	// ISP the client is with, by name.
	ISP string
	// IP is the client's simulated address; the zero Addr takes one inside the
	// ISP's prefixes, of IPv4 if there is one, by Seed.
	IP netip.Addr
	// Seed varies the address of clients of one ISP.
	Seed uint64
	// Region the client lives near: where its traffic starts, which DNS server
	// it asks first, and which ISP it has by default. It never pins the region
	// that answers.
	Region string
	// Device is "web", "phone" or "tv"; "" is "web".
	Device string
	// Bandwidth caps everything the player receives; 0 is no cap.
	Bandwidth topology.Rate
	// Speed of the playback clock; 0 and 1 are real time.
	Speed float64
	// Seconds of media to play; 0 is the whole title.
	Seconds float64
	// Resume begins where the member left off instead of at the start.
	Resume bool
	// Height is the resolution wanted, in lines; 0 is what the plan allows.
	Height int
	// ABR names the algorithm that chooses the rungs (see abr.Names); "" is the
	// default one.
	ABR string
	// Save writes what was received as one MP4 to a path: a temporary file
	// beside it, renamed at the end.
	Save string
	// SaveTo writes it to an open file instead.
	SaveTo io.WriteSeeker
	// Mode is how much of a play is done; "" is Full.
	Mode Mode
	// Tickets are what the viewer's device has kept of TLS sessions of earlier
	// plays, and keeps of this one's (see NewTickets); nil is a device that was
	// never on before. Only one device's plays may share them: a server can tell
	// by a ticket who comes back.
	Tickets tls.ClientSessionCache
	// Browse looks at the member's home page before the search, as a viewer
	// does who does not come with a title in mind.
	Browse bool
	// Seeks jump within the title, in order of After.
	Seeks []Seek
	// Leave walks away after so many seconds of media watched, whatever is
	// buffered; 0 stays. Until walks away when it ends; nil never does.
	Leave float64
	Until context.Context
	// Gauge is told what happens while it does; nil is nobody.
	Gauge Gauge
	// Network is a trace of the access link that repeats; nil leaves it as fast
	// as it is, or as Bandwidth caps it. It passes at the speed of the playback
	// clock, and NetworkAt is where in it the play begins.
	Network   []sim.Period
	NetworkAt time.Duration
}

// Mode is how much of a play is done.
type Mode string

// Modes of a play.
const (
	// Full checks every segment's checksum.
	Full Mode = "full"
	// Light receives every byte and keeps none: lengths are checked and
	// checksums are not, and one connection to the API and one to an appliance
	// are kept over HTTP/1.1, which needs the least memory. Appliances are probed
	// one rank after the other, the next only when nobody of those before can be
	// reached, and keys are agreed on by P-256 alone, as by devices older than
	// X25519 and its hybrid with ML-KEM.
	Light Mode = "light"
	// Head makes every call to the API and asks an appliance for the head of
	// the title's index only: load on the control plane. It connects as Light.
	Head Mode = "head"
)

// Modes lists them.
func Modes() []Mode { return []Mode{Full, Light, Head} }

// Gauge is told of a play while it goes on, by several goroutines.
type Gauge interface {
	// Shown says that the first picture is there, so long after the request.
	Shown(delay time.Duration)
	// Received says that bytes of media came.
	Received(bytes int)
	// Passed says how much time was played and stalled since the last call, and
	// how often playback ran dry.
	Passed(playing, stalled time.Duration, rebuffers int)
}

// Seek is a jump: After seconds of media were watched, on to the second To of
// the title.
type Seek struct {
	After, To float64
}

// lean says that the play shall cost little memory.
func (o Options) lean() bool { return o.Mode != Full }

// withDefaults fills what a zero value stands for.
func (o Options) withDefaults() Options {
	if o.Device == "" {
		o.Device = "web"
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.ABR == "" {
		o.ABR = abr.Names()[0]
	}
	if o.Mode == "" {
		o.Mode = Full
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.Title == "":
		return services.Errorf(services.Invalid, "no title was named").WithRemedy("name one by --title; flix title ls lists them")
	case o.Speed < 0:
		return services.Errorf(services.Invalid, "a speed of %g is not above 0", o.Speed).WithRemedy("use 1 for real time or 10 for ten times as fast")
	case o.Seconds < 0:
		return services.Errorf(services.Invalid, "%g seconds are less than none", o.Seconds).WithRemedy("use 0 for the whole title")
	case o.Bandwidth < 0:
		return services.Errorf(services.Invalid, "a bandwidth of %d bit/s is below 0", int64(o.Bandwidth)).WithRemedy("use 0 for no cap")
	case !slices.Contains(Modes(), o.Mode):
		return services.Errorf(services.Invalid, "there is no mode %q", o.Mode).WithRemedy("use one of %s", services.List(Modes()))
	case o.Leave < 0:
		return services.Errorf(services.Invalid, "leaving after %g seconds is before the begin", o.Leave).WithRemedy("use 0 to stay")
	case len(o.Network) > 0 && o.Bandwidth > 0:
		return services.Errorf(services.Invalid, "a link has a trace or a cap, not both")
	case (o.Save != "" || o.SaveTo != nil) && (len(o.Seeks) > 0 || o.lean()):
		return services.Errorf(services.Invalid, "only a full play without jumps can be saved")
	case !abr.Known(o.ABR):
		return services.Errorf(services.Invalid, "there is no adaptation algorithm %q", o.ABR).WithRemedy("use one of %s", strings.Join(abr.Names(), ", "))
	case o.Token == "" && o.Email == "":
		return services.Errorf(services.Invalid, "nobody to sign in").WithRemedy("give an email and a password, or a member token")
	}
	return nil
}

// Player plays titles of one lab. It is safe for concurrent use: every play
// has its own connections, cache and clock.
type Player struct {
	cfg   Config
	bufs  *buffers
	trust *trust

	mu sync.Mutex
	// indexes are what the titles' indexes say, by checksum: nobody changes them.
	indexes map[string]media.Index
}

// New makes a player. It opens nothing.
func New(c Config) (*Player, error) {
	switch {
	case len(c.Resolvers) == 0:
		return nil, services.Errorf(services.Invalid, "player: no DNS server was given")
	case c.RootCAs == nil:
		return nil, services.Errorf(services.Invalid, "player: no certificate authority was given")
	case c.Tel == nil:
		return nil, services.Errorf(services.Invalid, "player: no telemetry was given")
	case len(c.Topology.Regions) == 0:
		return nil, services.Errorf(services.Invalid, "player: the topology has no region")
	}
	if c.Dial == nil {
		c.Dial = wan.NewTable(topology.Topology{}, nil).Dialer
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &Player{cfg: c, bufs: newBuffers(), trust: newTrust(c.RootCAs, c.Clock), indexes: make(map[string]media.Index)}, nil
}
