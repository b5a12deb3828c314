package evcache

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"net"
	"slices"
	"strconv"

	"github.com/flix-lab/flix/services"
)

// pointsPerNode is the number of points of one server on the ring, four out of
// each MD5 (ketama's, and the original's "bucket.size").
const pointsPerNode = 160

// originalPort stands in every node key of the original, whatever port the
// server listens on.
const originalPort = ":11211"

// point is one of a server's places on the ring.
type point struct {
	at   uint32
	peer *peer
}

// zone is the servers of one zone on a ketama ring.
type zone struct {
	name  string
	peers []*peer
	ring  []point
}

// newZone puts servers on a ring exactly where the original Java client puts
// them (EVCacheKetamaNodeLocatorConfiguration over spymemcached's ketama): the
// node key is "NAME/IP:11211-REPETITION", and each of its MD5s gives four
// points, little-endian. Two servers of one name and address would fall on the
// same points; there, and only there, the real port takes the place of 11211.
func newZone(name string, peers []*peer) *zone {
	z := &zone{name: name, peers: peers}
	if len(peers) < 2 {
		return z
	}
	same := map[string]int{}
	for _, p := range peers {
		host, _ := p.node.place()
		same[host]++
	}
	z.ring = make([]point, 0, len(peers)*pointsPerNode)
	for _, p := range peers {
		host, port := p.node.place()
		key := host + originalPort
		if same[host] > 1 {
			key = host + ":" + port
		}
		for i := range pointsPerNode / 4 {
			sum := md5.Sum([]byte(key + "-" + strconv.Itoa(i)))
			for j := range 4 {
				z.ring = append(z.ring, point{binary.LittleEndian.Uint32(sum[j*4:]), p})
			}
		}
	}
	slices.SortFunc(z.ring, func(a, b point) int {
		if c := cmp.Compare(a.at, b.at); c != 0 {
			return c
		}
		return cmp.Compare(a.peer.node.Addr, b.peer.node.Addr)
	})
	return z
}

// place returns "NAME/IP" and the port of a server.
func (n Node) place() (host, port string) {
	ip, port, err := net.SplitHostPort(n.Addr)
	if err != nil {
		ip, port = n.Addr, ""
	}
	return cmp.Or(n.Name, ip) + "/" + ip, port
}

// pick returns the server of a key.
func (z *zone) pick(key []byte) *peer {
	if len(z.ring) == 0 {
		return z.peers[0]
	}
	sum := md5.Sum(key)
	at := binary.LittleEndian.Uint32(sum[:])
	i, _ := slices.BinarySearchFunc(z.ring, at, func(p point, at uint32) int { return cmp.Compare(p.at, at) })
	if i == len(z.ring) {
		i = 0
	}
	return z.ring[i].peer
}

// fleet is the servers as they were last told, and what they are used for:
// never changed, only replaced.
type fleet struct {
	nodes []Node
	peers map[Node]*peer
	// zones are all there are: the client's own first, then the others in a
	// fixed order. reads are those that are read, allWrites those that are
	// written, of which the first, writes, are waited for.
	zones, reads, writes, allWrites []*zone
}

var errClosed error = services.Errorf(services.Unavailable, "evcache: the client is closed")

// fleet returns the servers as they are now.
func (c *Client) fleet() (*fleet, error) {
	nodes := c.cfg.Servers()
	f := c.state.Load()
	if !slices.Equal(nodes, f.nodes) {
		var err error
		if f, err = c.rebuild(nodes); err != nil {
			return nil, err
		}
	}
	if len(f.zones) == 0 {
		return nil, services.Errorf(services.Unavailable, "evcache: no cache server is known").
			WithRemedy("see whether the region's evcache instances are up and registered")
	}
	return f, nil
}

// zone returns a zone by its name.
func (c *Client) zone(name string) (*zone, error) {
	f, err := c.fleet()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(f.zones))
	for _, z := range f.zones {
		if z.name == name {
			return z, nil
		}
		names = append(names, z.name)
	}
	return nil, services.Errorf(services.NotFound, "evcache: zone %q has no cache server", name).WithRemedy("the zones with one are %s", services.List(names))
}

// rebuild replaces the fleet, keeping the connections to servers that stay.
func (c *Client) rebuild(nodes []Node) (*fleet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.state.Load()
	switch {
	case c.closed:
		return nil, errClosed
	case slices.Equal(nodes, old.nodes):
		return old, nil
	}
	nodes = slices.Clone(nodes)
	peers := make(map[Node]*peer, len(nodes))
	for _, n := range nodes {
		if peers[n] = old.peers[n]; peers[n] == nil {
			peers[n] = newPeer(n, &c.cfg)
		}
	}
	f := c.arrange(nodes, peers)
	c.state.Store(f)
	for n, p := range old.peers {
		if f.peers[n] == nil {
			p.close()
		}
	}
	return f, nil
}

// arrange makes a fleet of servers and the modes as they are; c.mu is held.
func (c *Client) arrange(nodes []Node, peers map[Node]*peer) *fleet {
	f := &fleet{nodes: nodes, peers: peers}
	byZone := map[string][]*peer{}
	seen := make(map[Node]bool, len(nodes))
	for _, n := range nodes {
		if !seen[n] {
			byZone[n.Zone] = append(byZone[n.Zone], peers[n])
		}
		seen[n] = true
	}
	var late []*zone
	for _, name := range order(byZone, c.cfg.Zone) {
		z := newZone(name, byZone[name])
		f.zones = append(f.zones, z)
		switch c.modes[name] {
		case WriteOnly:
			late = append(late, z)
		case ReadOnly:
			f.reads = append(f.reads, z)
		default:
			f.reads, f.writes = append(f.reads, z), append(f.writes, z)
		}
	}
	if len(f.writes) == 0 { // then those are all there is to wait for
		f.writes, late = late, nil
	}
	f.allWrites = append(slices.Clone(f.writes), late...)
	return f
}

// order returns the zones in the order they are read: the own one, then those
// after it by name, around to those before it, so that the readers of
// different zones fall back to different ones.
func order(byZone map[string][]*peer, own string) []string {
	names := make([]string, 0, len(byZone))
	for name := range byZone {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := cmp.Compare(b2i(a < own), b2i(b < own)); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	return names
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
