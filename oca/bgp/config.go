package bgp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/flix-lab/flix/services"
)

// Config is what a speaker needs.
type Config struct {
	// ASN is the speaker's own autonomous system, PeerASN that of its neighbour;
	// they differ.
	ASN, PeerASN uint32
	// ID is the speaker's identifier, an IPv4 address. Of two connections at once
	// the one stays that the speaker with the greater identifier opened.
	ID netip.Addr
	// Listener takes the neighbour's connections; the speaker closes it. nil:
	// the speaker only dials.
	Listener net.Listener
	// Dial opens a connection to the neighbour; nil: the speaker only listens.
	Dial func(ctx context.Context) (net.Conn, error)
	// Hold is how long a silent neighbour is taken to be there, 3 s to 65535 s;
	// the smaller of both sides' holds.
	Hold time.Duration
	// Stale is how long the routes of a lost session are kept.
	Stale time.Duration
	// RetryMin and RetryMax bound the wait between two attempts to dial.
	RetryMin, RetryMax time.Duration
	// MaxRoutes is how many routes are learned at most: a neighbour that sends
	// more is told to cease. 0 is DefaultMaxRoutes.
	MaxRoutes int
	// Log is told of sessions; nil discards.
	Log *slog.Logger
}

const (
	// DefaultMaxRoutes bounds what is learned where Config does not say.
	DefaultMaxRoutes = 100_000
	// minHold is the least hold time that RFC 4271 allows, maxHold the most that
	// an OPEN can say.
	minHold, maxHold = 3 * time.Second, 65535 * time.Second
	// maxStrangers bounds the connections that are not the session yet.
	maxStrangers = 8
)

func (c *Config) check() error {
	switch {
	case c.ASN == 0 || c.PeerASN == 0:
		return services.Errorf(services.Invalid, "bgp: an autonomous system number is missing")
	case c.ASN == c.PeerASN:
		return services.Errorf(services.Invalid, "bgp: both sides are of AS %d: only external sessions are held", c.ASN)
	case !c.ID.Is4() || c.ID.IsUnspecified():
		return services.Errorf(services.Invalid, "bgp: the identifier %v is not an IPv4 address", c.ID)
	case c.Listener == nil && c.Dial == nil:
		return services.Errorf(services.Invalid, "bgp: the speaker neither listens nor dials")
	case c.Hold < minHold || c.Hold > maxHold:
		return services.Errorf(services.Invalid, "bgp: a hold time of %v is not 3 s to 65535 s", c.Hold)
	case c.Stale <= 0 || c.RetryMin <= 0 || c.RetryMax < c.RetryMin:
		return services.Errorf(services.Invalid, "bgp: a time to wait is missing")
	}
	if c.MaxRoutes == 0 {
		c.MaxRoutes = DefaultMaxRoutes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
