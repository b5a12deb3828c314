package player

import (
	"crypto/x509"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/flix-lab/flix/lab/player/abr"
	"github.com/flix-lab/flix/lab/wan"
	"github.com/flix-lab/flix/services"
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
	// ISP's IPv4 prefix, by Seed.
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
}

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
	cfg Config
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
	return &Player{cfg: c}, nil
}
