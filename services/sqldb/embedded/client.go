package embedded

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/sqldb/sqldbpb"
	"github.com/flix-lab/flix/services/telemetry"
)

// NewClient makes a sqldb.DB of a connection to the region's node, which
// answers reads from its own copy and hands writes on to the primary. The
// connection stays the caller's: Close leaves it open.
func NewClient(conn grpc.ClientConnInterface) sqldb.DB {
	c := &client{rpc: sqldbpb.NewSQLClient(conn)}
	return sqldb.New(c, c)
}

// client is a sqldb.Conn over the wire.
type client struct{ rpc sqldbpb.SQLClient }

// Run implements sqldb.Conn.
func (c *client) Run(ctx context.Context, tx sqldb.Tx) ([]sqldb.Result, error) {
	statements, err := toStatements(tx.Statements)
	if err != nil {
		return nil, err
	}
	if tx.Confirm {
		ctx = metadata.AppendToOutgoingContext(ctx, mdConfirm, "1")
	}
	r, err := c.rpc.Run(ctx, &sqldbpb.RunRequest{Statements: statements})
	if err != nil {
		return nil, telemetry.FromStatus(err)
	}
	if len(r.GetResults()) != len(statements) {
		return nil, services.Errorf(services.Internal, "%d results of %d statements", len(r.GetResults()), len(statements))
	}
	return fromResults(r.GetResults()), nil
}

// Close implements sqldb.Conn.
func (*client) Close() error { return nil }

// NewNode makes a sqldb.Node of a connection to a region's node, at either of
// its addresses.
func NewNode(conn grpc.ClientConnInterface) sqldb.Node {
	return &node{rpc: sqldbpb.NewSQLClient(conn)}
}

// node administers over the wire.
type node struct{ rpc sqldbpb.SQLClient }

func (n *node) state(ctx context.Context, op string) (*sqldbpb.StateReply, error) {
	r, err := n.rpc.State(ctx, &sqldbpb.StateRequest{})
	return r, services.Wrap(op, telemetry.FromStatus(err))
}

// Primary implements sqldb.Node. A fenced primary takes no writes.
func (n *node) Primary(ctx context.Context) (bool, error) {
	r, err := n.state(ctx, "sqldb.Primary")
	return r.GetPrimary() && !r.GetFenced(), err
}

// Fenced implements sqldb.Node.
func (n *node) Fenced(ctx context.Context) (bool, error) {
	r, err := n.state(ctx, "sqldb.Fenced")
	return r.GetPrimary() && r.GetFenced(), err
}

// Position implements sqldb.Node.
func (n *node) Position(ctx context.Context) (uint64, error) {
	r, err := n.state(ctx, "sqldb.Position")
	return r.GetPosition(), err
}

// Fence implements sqldb.Node.
func (n *node) Fence(ctx context.Context) (uint64, error) {
	r, err := n.rpc.Fence(ctx, &sqldbpb.FenceRequest{})
	return r.GetPosition(), telemetry.FromStatus(err)
}

// Promote implements sqldb.Node.
func (n *node) Promote(ctx context.Context, position uint64) error {
	_, err := n.rpc.Promote(ctx, &sqldbpb.PromoteRequest{Position: position})
	return telemetry.FromStatus(err)
}
