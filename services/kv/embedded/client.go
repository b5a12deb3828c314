package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
	"github.com/flix-lab/flix/services/kv/kvpb"
	"github.com/flix-lab/flix/services/telemetry"
)

// client is a kv.Store over the wire.
type client struct{ rpc kvpb.KVClient }

// NewClient makes a kv.Store of a connection to a region's store. The
// connection stays the caller's: Close leaves it open.
func NewClient(conn grpc.ClientConnInterface) kv.Store {
	return &client{rpc: kvpb.NewKVClient(conn)}
}

// Get implements kv.Store.
func (c *client) Get(ctx context.Context, ns kv.Namespace, partition, sort string) (kv.Item, error) {
	if err := validText(partition, sort); err != nil {
		return kv.Item{}, services.Wrap("kv.Get", err)
	}
	r, err := c.rpc.Get(ctx, &kvpb.GetRequest{Namespace: ns.Name, Partition: partition, Sort: sort})
	if err != nil {
		return kv.Item{}, failed("kv.Get", err)
	}
	if !r.GetFound() {
		return kv.Item{}, &services.Error{Op: "kv.Get", Kind: services.NotFound, Msg: "no item " + ns.Name + "/" + partition + "/" + sort}
	}
	return item(r.GetCell()), nil
}

// Query implements kv.Store.
func (c *client) Query(ctx context.Context, ns kv.Namespace, partition string, r kv.Range) ([]kv.Item, string, error) {
	if err := validText(partition, r.From, r.To, r.Page); err != nil {
		return nil, "", services.Wrap("kv.Query", err)
	}
	reply, err := c.rpc.Query(ctx, &kvpb.QueryRequest{
		Namespace: ns.Name, Partition: partition, From: r.From, To: r.To,
		Limit: uint32(max(r.Limit, 0)), Reverse: r.Reverse, PageToken: r.Page,
	})
	if err != nil {
		return nil, "", failed("kv.Query", err)
	}
	items := make([]kv.Item, len(reply.GetCells()))
	for i, cell := range reply.GetCells() {
		items[i] = item(cell)
	}
	return items, reply.GetNextPageToken(), nil
}

// Put implements kv.Store.
func (c *client) Put(ctx context.Context, ns kv.Namespace, partition string, items ...kv.Item) error {
	if len(items) == 0 {
		return nil
	}
	_, err := c.write(ctx, "kv.Put", ns, partition, nil, items)
	return err
}

// PutIf implements kv.Store.
func (c *client) PutIf(ctx context.Context, ns kv.Namespace, partition string, cond kv.Condition, items ...kv.Item) error {
	if err := validText(cond.Sort); err != nil {
		return services.Wrap("kv.PutIf", err)
	}
	applied, err := c.write(ctx, "kv.PutIf", ns, partition, &kvpb.Condition{Sort: cond.Sort, Absent: cond.Absent, ValueEquals: cond.Equals}, items)
	if err != nil || applied {
		return err
	}
	return &services.Error{Op: "kv.PutIf", Kind: services.Conflict, Msg: "item " + ns.Name + "/" + partition + "/" + cond.Sort + " is not as expected"}
}

// Delete implements kv.Store.
func (c *client) Delete(ctx context.Context, ns kv.Namespace, partition string, sorts ...string) error {
	if len(sorts) == 0 {
		return nil
	}
	cells := make([]*kvpb.Cell, len(sorts))
	for i, s := range sorts {
		cells[i] = &kvpb.Cell{Sort: s, Tombstone: true}
	}
	_, err := c.send(ctx, "kv.Delete", ns, partition, nil, cells)
	return err
}

// Close implements kv.Store.
func (*client) Close() error { return nil }

func (c *client) write(ctx context.Context, op string, ns kv.Namespace, partition string, cond *kvpb.Condition, items []kv.Item) (bool, error) {
	cells := make([]*kvpb.Cell, len(items))
	for i, it := range items {
		cells[i] = &kvpb.Cell{Sort: it.Sort, Value: it.Value}
		if it.TTL < 0 {
			return false, &services.Error{Op: op, Kind: services.Invalid, Msg: "item " + it.Sort + " has a negative TTL"}
		}
		if it.TTL > 0 {
			cells[i].ExpiresUnixMs = time.Now().Add(it.TTL).UnixMilli()
		}
	}
	return c.send(ctx, op, ns, partition, cond, cells)
}

func (c *client) send(ctx context.Context, op string, ns kv.Namespace, partition string, cond *kvpb.Condition, cells []*kvpb.Cell) (bool, error) {
	for _, cell := range cells {
		if err := validText(partition, cell.GetSort()); err != nil {
			return false, services.Wrap(op, err)
		}
	}
	r, err := c.rpc.Write(ctx, &kvpb.WriteRequest{Namespace: ns.Name, Partition: partition, Cells: cells, Condition: cond, Global: ns.Global})
	if err == nil {
		return r.GetApplied(), nil
	}
	err = failed(op, err)
	if ns.Global && services.KindOf(err) == services.Unavailable && services.ReasonOf(err) == "" {
		// The call ended before the server could say what became of it.
		err = fmt.Errorf("the write may be applied in its region, unconfirmed by a second one: %w", err)
	}
	return false, err
}

func item(c *kvpb.Cell) kv.Item {
	return kv.Item{Sort: c.GetSort(), Value: c.GetValue(), Written: timeOf(c.GetHlc()), Region: c.GetRegion()}
}

// failed turns a status into a services.Error, whether or not the connection
// did so already.
func failed(op string, err error) error {
	err = telemetry.FromStatus(err)
	if e := (*services.Error)(nil); !errors.As(err, &e) {
		err = &services.Error{Kind: services.KindOf(err), Err: err}
	}
	return services.Wrap(op, err)
}

// validText refuses what the wire cannot carry.
func validText(parts ...string) error {
	for _, p := range parts {
		if !utf8.ValidString(p) {
			return services.Errorf(services.Invalid, "key %.32q is not UTF-8", p)
		}
	}
	return nil
}
