package cassandra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	gocql "github.com/apache/cassandra-gocql-driver/v2"

	"github.com/flix-lab/flix/services"
)

// Ping asks a node for one row of its own, over a connection of its own: it
// fails with services.Unavailable unless the node answers CQL. It costs the
// node less than a millisecond, so a sidecar may call it every second. A nil
// dial is a plain dialer.
func Ping(ctx context.Context, addr string, dial services.DialFunc) error {
	_, err := identify(ctx, addr, dial)
	return err
}

// node is who answered at an address.
type node struct {
	id         string // of the host, for life
	datacenter string
	client     net.IP // where it tells clients to find it
}

// identify asks the node at an address who it is.
func identify(ctx context.Context, addr string, dial services.DialFunc) (node, error) {
	rows, err := ask(ctx, addr, dial, "SELECT host_id, data_center, rpc_address FROM system.local WHERE key='local'")
	if err != nil {
		return node{}, unreachable(addr, err)
	}
	if len(rows) != 1 {
		return node{}, unreachable(addr, errWire)
	}
	n := node{id: rows[0]["host_id"].uuid(), datacenter: rows[0]["data_center"].text(), client: rows[0]["rpc_address"].ip()}
	if n.id == "" || n.client == nil {
		return node{}, unreachable(addr, errors.New("the node has not joined its cluster yet"))
	}
	return n, nil
}

func ask(ctx context.Context, addr string, dial services.DialFunc, cql string) ([]row, error) {
	w, err := dialWire(ctx, dial, addr)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return w.query(ctx, cql)
}

func unreachable(addr string, err error) error {
	kind := services.Unavailable
	if services.KindOf(err) == services.Denied {
		kind = services.Denied
	}
	return &services.Error{
		Kind: kind, Msg: "Cassandra at " + addr + " does not answer", Err: err,
		Remedy: "see whether the node is up: it takes some tens of seconds to start",
	}
}

// directory finds the region's nodes by who they are. The driver knows nodes
// by the addresses that they announce to one another, which need not be those
// at which a client reaches them: a published port, a node that has moved.
// It is the driver's gocql.HostDialer.
type directory struct {
	cfg *Config
	// ctx ends every connect.
	ctx context.Context

	mu   sync.Mutex
	last map[string]string // host id → address it was found at
	// opening holds what closes the connections of a session that is still
	// being opened, which the driver cannot be told to stop.
	opening []func() bool
}

// contacts are the addresses that the region's reachable nodes announce to
// clients, without a port.
func (d *directory) contacts(ctx context.Context) ([]string, error) {
	var out []string
	var errs []error
	for _, addr := range d.cfg.Hosts() {
		n, err := d.identify(ctx, addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, n.client.String())
	}
	switch {
	case len(out) > 0:
		return out, nil
	case len(errs) == 0:
		return nil, services.Errorf(services.Unavailable, "region %s has no Cassandra node", d.cfg.Datacenter)
	}
	return nil, errors.Join(errs...)
}

// identify asks who is at an address. Addresses are reused, so a node of
// another region may answer: that is an error.
func (d *directory) identify(ctx context.Context, addr string) (node, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	n, err := identify(ctx, addr, d.cfg.Dial)
	if err != nil {
		return node{}, err
	}
	if n.datacenter != d.cfg.Datacenter {
		return node{}, services.Errorf(services.Unavailable, "the Cassandra node at %s is of %s, not of %s", addr, n.datacenter, d.cfg.Datacenter)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[n.id] = addr
	return n, nil
}

// DialHost implements gocql.HostDialer.
func (d *directory) DialHost(ctx context.Context, host *gocql.HostInfo) (*gocql.DialedHost, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	addr, err := d.find(ctx, host.HostID(), host.ConnectAddress())
	if err != nil {
		return nil, err
	}
	conn, err := d.cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// The driver takes it for granted and would panic.
	if _, ok := conn.RemoteAddr().(*net.TCPAddr); !ok {
		return nil, errors.Join(fmt.Errorf("the connection to %s is not TCP", addr), conn.Close())
	}
	d.track(conn)
	return &gocql.DialedHost{Conn: conn}, nil
}

// find returns the address of a node: where it was last, or else wherever it
// is among the region's. Without an id the driver looks for a contact: the node
// that announces the given address, or else any, since a contact's address may
// be one that its node has left.
func (d *directory) find(ctx context.Context, id string, client net.IP) (string, error) {
	var errs []error
	contact := ""
	for _, addr := range d.candidates(id) {
		n, err := d.identify(ctx, addr)
		switch {
		case err != nil:
			errs = append(errs, err)
		case id != "" && n.id == id, id == "" && n.client.Equal(client):
			return addr, nil
		case id == "":
			contact = addr
		}
	}
	if contact != "" {
		return contact, nil
	}
	return "", errors.Join(append(errs, fmt.Errorf("no node %s in region %s", id, d.cfg.Datacenter))...)
}

// candidates are the region's addresses, that of the node with an id first.
func (d *directory) candidates(id string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	hosts := slices.Clone(d.cfg.Hosts())
	if i := slices.Index(hosts, d.last[id]); i > 0 {
		hosts[0], hosts[i] = hosts[i], hosts[0]
	}
	return hosts
}

// track closes a connection with ctx as long as the session is being opened.
func (d *directory) track(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opening != nil {
		d.opening = append(d.opening, context.AfterFunc(d.ctx, func() { _ = conn.Close() })) // the session's error is the one that counts
	}
}

// while runs open with its connections tracked.
func (d *directory) while(open func() error) error {
	d.mu.Lock()
	d.opening = []func() bool{}
	d.mu.Unlock()
	err := open()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, stop := range d.opening {
		stop()
	}
	d.opening = nil
	return err
}
