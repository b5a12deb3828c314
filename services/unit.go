package services

import (
	"context"
	"net"
	"time"
)

// Unit is one running instance of a role. Its constructor has taken the
// listeners it serves, already bound.
type Unit interface {
	// Serve answers on the unit's listeners until ctx ends, then closes
	// everything it opened, listeners included, and waits for its goroutines.
	// It returns nil after an orderly end and an error only when the unit
	// cannot go on; it is called once.
	Serve(ctx context.Context) error
}

// Drainer is a Unit that can refuse new work while it finishes what it has.
type Drainer interface {
	// Drain makes the unit tell its clients to go elsewhere (GOAWAY or
	// "Connection: close") and returns when no request is in flight or ctx
	// ends. The unit keeps answering stragglers.
	Drain(ctx context.Context) error
}

// DialFunc opens a connection to another site of the lab; it applies the
// WAN between the two. Its shape is net.Dialer's DialContext.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Within bounds how long a connection may take to come about.
func (d DialFunc) Within(limit time.Duration) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return d(ctx, network, address)
	}
}
