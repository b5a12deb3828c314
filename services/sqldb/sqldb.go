// Package sqldb is the port to the relational store: members, plans, titles
// and billing, in one schema. What must be exact lives here: reads and writes
// of one call are one transaction on the primary; replicas in other regions
// follow its change sets in order and answer stale-tolerant reads.
//
// Package embedded is the adapter on SQLite; sqldbtest is the contract every
// adapter passes.
package sqldb

import (
	"context"
	"time"

	"github.com/flix-lab/flix/services"
)

// Plan is what a member pays for.
type Plan struct {
	ID         string   `json:"id"` // "basic", "standard", "premium"
	Name       string   `json:"name"`
	MaxHeight  int      `json:"max_height"` // tallest video, in lines
	MaxStreams int      `json:"max_streams"`
	Devices    []string `json:"devices"` // device kinds it may play on
	PriceCents int      `json:"price_cents"`
}

// Member is a paying household.
type Member struct {
	ID      services.MemberID `json:"id"`
	Email   string            `json:"email"`
	Name    string            `json:"name"`
	Plan    string            `json:"plan"`
	Country string            `json:"country"`
	// PasswordHash is the salted hash; see package signup.
	PasswordHash string    `json:"-"`
	Created      time.Time `json:"created"`
}

// Title is a row of the catalogue.
type Title struct {
	ID       services.TitleID `json:"id"`
	Name     string           `json:"name"`
	Synopsis string           `json:"synopsis"`
	Genres   []string         `json:"genres"`
	// Poster is text art.
	Poster   string        `json:"poster,omitempty"`
	Duration time.Duration `json:"duration"`
	Rungs    []Rung        `json:"rungs"`
	// Countries it is licensed in; empty: everywhere.
	Countries []string `json:"countries"`
	// Live says that it is published and may be played, once its date has come.
	Live bool `json:"live"`
	Year int  `json:"year,omitempty"`
	// Available is its date: nobody plays it before. Zero: it has none.
	Available time.Time `json:"available,omitzero"`
	// MinSites is how many sites have to hold all of it before it is played; 0
	// is one appliance. Cache control watches over it, who knows what they hold.
	MinSites int `json:"min_sites,omitempty"`
}

// LiveAt says whether it is published and its date has come.
func (t Title) LiveAt(now time.Time) bool { return t.Live && !now.Before(t.Available) }

// Rung is one video quality of a title.
type Rung struct {
	ID     string `json:"id"`
	Kbps   int    `json:"kbps"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// LicensedIn says whether the title may be played in a country.
func (t Title) LicensedIn(country string) bool {
	if len(t.Countries) == 0 {
		return true
	}
	for _, c := range t.Countries {
		if c == country {
			return true
		}
	}
	return false
}

// Entry is one line of the billing ledger; amounts are cents.
type Entry struct {
	Key    string            `json:"key"` // idempotency key
	Member services.MemberID `json:"member"`
	Kind   string            `json:"kind"` // "charge", "credit", "trial"
	Cents  int               `json:"cents"`
	At     time.Time         `json:"at"`
}

// PlanChange is what a change of plan does, if the member still has From.
type PlanChange struct {
	Member   services.MemberID
	From, To string
	// Entry is what the change costs; its member is Member.
	Entry Entry
}

// DB is a client of the lab's relational store as seen from one region. Reads
// go to the region's replica and may be stale by the replication lag; writes go
// to the primary wherever it is. Safe for concurrent use. Errors carry a
// services.Kind: NotFound, Conflict (a key that exists), Unavailable.
type DB interface {
	Plans(ctx context.Context) ([]Plan, error)
	PutPlan(ctx context.Context, p Plan) error

	// Member finds one by id, MemberByEmail by address.
	Member(ctx context.Context, id services.MemberID) (Member, error)
	MemberByEmail(ctx context.Context, email string) (Member, error)
	// CreateMember inserts a member and the first ledger entry in one
	// transaction; the same entry key again returns the member unchanged.
	CreateMember(ctx context.Context, m Member, first Entry) (Member, error)

	Title(ctx context.Context, id services.TitleID) (Title, error)
	// Titles lists the catalogue by name.
	Titles(ctx context.Context) ([]Title, error)
	// PutTitle inserts or replaces; idempotent.
	PutTitle(ctx context.Context, t Title) error

	// ChangePlan moves a member from one plan to another and adds the ledger
	// entry in one transaction; the same entry key again changes nothing. It
	// returns the member as the transaction left it. done says that the entry is
	// there; without it nothing was changed, because the member had another plan
	// than the entry was made for. NotFound without such a member, Conflict for
	// a key that is another member's.
	ChangePlan(ctx context.Context, c PlanChange) (m Member, done bool, err error)
	// AppendEntry adds a ledger entry; the same key again changes nothing.
	AppendEntry(ctx context.Context, e Entry) error
	// Ledger lists a member's entries, the oldest first.
	Ledger(ctx context.Context, id services.MemberID) ([]Entry, error)
	// Entry is the ledger entry of a key; NotFound without one.
	Entry(ctx context.Context, key string) (Entry, error)

	// Close releases the client's connections.
	Close() error
}

// Node administers the store of one region.
type Node interface {
	// Primary says whether this region's node takes writes.
	Primary(ctx context.Context) (bool, error)
	// Fenced says whether this region's node was fenced and nobody has been
	// promoted since: nothing takes writes until somebody is.
	Fenced(ctx context.Context) (bool, error)
	// Position is the number of the last change set applied here.
	Position(ctx context.Context) (uint64, error)
	// Fence makes a primary refuse writes from now on, for a promotion
	// elsewhere; it returns the last position.
	Fence(ctx context.Context) (uint64, error)
	// Promote makes this node the primary once it has applied position at
	// least; it waits for that until ctx ends.
	Promote(ctx context.Context, position uint64) error
}
