package cassandra

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services"
)

// State is the cluster as one of its nodes sees it.
type State struct {
	// Nodes that have joined, the answering one included, by no order.
	Nodes []Node
}

// Node is one member of the cluster.
type Node struct {
	HostID     string
	Datacenter string
	Rack       string
	// Address that other nodes reach it at, e.g. "172.30.0.1:7101".
	Address string
	// Status it last announced: NORMAL, shutdown, LEAVING, …
	Status string
	// Up says that the answering node has connections to it.
	Up bool
	// Schema is the version of its schema; equal versions are equal schemas.
	Schema string
	// Hints is how many files of writes the answering node keeps for it. They
	// are written out every 10 s, so a short absence shows none.
	Hints int
	// OldestHint is when the first of these writes came; zero without any.
	OldestHint time.Time
}

// ReadState asks a node what it knows of the cluster. It fails with
// services.Unavailable when the node does not answer. A node that is lost with
// its connections is seen as down at once; one that falls silent after some
// ten seconds. A nil dial is a plain dialer.
func ReadState(ctx context.Context, addr string, dial services.DialFunc) (State, error) {
	w, err := dialWire(ctx, dial, addr)
	if err != nil {
		return State{}, unreachable(addr, err)
	}
	defer w.close()
	s, err := w.state(ctx)
	if err != nil {
		return State{}, unreachable(addr, err)
	}
	return s, nil
}

// Up counts the nodes that are up in each datacentre; one whose nodes are all
// down has 0.
func (s State) Up() map[string]int {
	out := map[string]int{}
	for _, n := range s.Nodes {
		if n.Up {
			out[n.Datacenter]++
		} else {
			out[n.Datacenter] += 0
		}
	}
	return out
}

// Agreed says whether all nodes that are up have one schema.
func (s State) Agreed() bool {
	version := ""
	for _, n := range s.Nodes {
		switch {
		case !n.Up:
		case n.Schema == "", version != "" && n.Schema != version:
			return false
		default:
			version = n.Schema
		}
	}
	return true
}

// state reads virtual tables, which exist since Cassandra 4.1: they hold what
// the node knows at this moment, without touching a disk.
func (w *wire) state(ctx context.Context) (State, error) {
	local, err := w.query(ctx, "SELECT host_id FROM system.local WHERE key='local'")
	if err != nil || len(local) != 1 {
		return State{}, errors.Join(err, errWire)
	}
	self := local[0]["host_id"].uuid()
	gossip, err := w.query(ctx, "SELECT address, port, dc, rack, host_id, status_with_port, \"schema\" FROM system_views.gossip_info")
	if err != nil {
		return State{}, err
	}
	links, err := w.query(ctx, "SELECT address, port, dc, active_connections FROM system_views.internode_outbound")
	if err != nil {
		return State{}, err
	}
	hints, err := w.query(ctx, "SELECT host_id, files, oldest FROM system_views.pending_hints")
	if err != nil {
		return State{}, err
	}
	connected := map[string]bool{}
	for _, r := range links {
		connected[address(r)] = r["active_connections"].number() > 0
	}
	var s State
	for _, r := range gossip {
		n := Node{
			HostID: r["host_id"].text(), Datacenter: r["dc"].text(), Rack: r["rack"].text(), Address: address(r), Schema: r["schema"].text(),
		}
		// A status goes on after a comma, with a token.
		n.Status, _, _ = strings.Cut(r["status_with_port"].text(), ",")
		if n.Status == "" || strings.HasPrefix(n.Status, "BOOT") || n.Status == "LEFT" || n.Status == "removed" {
			continue // not a member yet, or not any more
		}
		n.Up = n.HostID == self || connected[n.Address]
		n.addHints(hints)
		s.Nodes = append(s.Nodes, n)
	}
	return s, nil
}

func (n *Node) addHints(hints []row) {
	for _, h := range hints {
		if h["host_id"].uuid() == n.HostID {
			n.Hints = int(h["files"].number())
			n.OldestHint = time.UnixMilli(h["oldest"].number())
		}
	}
}

// address of a row's node among nodes.
func address(r row) string {
	ip := r["address"].ip()
	if ip == nil {
		return ""
	}
	return net.JoinHostPort(ip.String(), strconv.FormatInt(r["port"].number(), 10))
}
