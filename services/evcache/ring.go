package evcache

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/flix-lab/flix/services"
)

// pointsPerNode is the number of points of one server on the ring, four out of
// each MD5 (ketama's).
const pointsPerNode = 160

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

func newZone(name string, peers []*peer) *zone {
	z := &zone{name: name, peers: peers}
	if len(peers) < 2 {
		return z
	}
	z.ring = make([]point, 0, len(peers)*pointsPerNode)
	for _, p := range peers {
		for i := range pointsPerNode / 4 {
			// The address has the port in it: EVCache's ring puts a fixed one
			// there, so that two servers of one host fall on the same points.
			sum := md5.Sum([]byte(p.addr + "-" + strconv.Itoa(i)))
			for j := range 4 {
				z.ring = append(z.ring, point{binary.LittleEndian.Uint32(sum[j*4:]), p})
			}
		}
	}
	slices.SortFunc(z.ring, func(a, b point) int {
		if c := cmp.Compare(a.at, b.at); c != 0 {
			return c
		}
		return cmp.Compare(a.peer.addr, b.peer.addr)
	})
	return z
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

// fleet is the servers as they were last told: never changed, only replaced.
type fleet struct {
	nodes []Node
	zones []*zone // the client's own first, then the others in a fixed order
	peers map[Node]*peer
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
	f := &fleet{nodes: slices.Clone(nodes), peers: make(map[Node]*peer, len(nodes))}
	byZone := map[string][]*peer{}
	for _, n := range nodes {
		if f.peers[n] != nil {
			continue
		}
		p := old.peers[n]
		if p == nil {
			p = newPeer(n.Addr, &c.cfg)
		}
		f.peers[n] = p
		byZone[n.Zone] = append(byZone[n.Zone], p)
	}
	for _, name := range order(byZone, c.cfg.Zone) {
		f.zones = append(f.zones, newZone(name, byZone[name]))
	}
	c.state.Store(f)
	for n, p := range old.peers {
		if f.peers[n] == nil {
			p.close()
		}
	}
	return f, nil
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
