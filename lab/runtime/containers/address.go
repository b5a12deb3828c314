package containers

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"

	"github.com/flix-lab/flix/lab/journal"
	"github.com/flix-lab/flix/lab/runtime"
	"github.com/flix-lab/flix/services"
)

// A lab's network is a /20; the first /24 of it is the engine's (the gateway
// lies there), each region takes one of the others.
const (
	networkBits = 20
	blockBits   = 24
	maxBlocks   = 1 << (blockBits - networkBits)
)

// addresses gives containers their addresses and remembers them in the
// journal, so that a container keeps its own over every restart.
type addresses struct {
	j      *journal.Journal
	subnet netip.Prefix
	blocks map[string]int    // region → number of its block, from 1
	byID   map[string]string // container id → address
	used   map[string]bool
}

type subnetData struct {
	Prefix string `json:"prefix"`
}

type blockData struct {
	Block int `json:"block"`
}

type addressData struct {
	Address string `json:"address"`
}

// The journal's names for the lab's network and its blocks.
const (
	subnetID = "subnet"
	blockID  = "block "
)

func newAddresses(j *journal.Journal) (*addresses, error) {
	a := &addresses{j: j, blocks: map[string]int{}, byID: map[string]string{}, used: map[string]bool{}}
	for _, e := range j.List(journal.Address) {
		var d struct {
			subnetData
			blockData
			addressData
		}
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return nil, fmt.Errorf("journal: address %s: %w", e.ID, err)
		}
		switch {
		case d.Prefix != "":
			p, err := netip.ParsePrefix(d.Prefix)
			if err != nil {
				return nil, fmt.Errorf("journal: %w", err)
			}
			a.subnet = p
		case d.Block != 0:
			a.blocks[e.ID[len(blockID):]] = d.Block
		default:
			a.byID[e.ID], a.used[d.Address] = d.Address, true
		}
	}
	return a, nil
}

// choose takes a subnet that meets none of those taken. The search starts at a
// place that depends on the lab, so that labs rarely meet.
func (a *addresses) choose(seed string, taken []netip.Prefix) error {
	if a.subnet.IsValid() {
		return nil
	}
	h := fnv.New32a()
	h.Write([]byte(seed))
	const candidates = 1 << 12 // of 10.0.0.0/8
	for k := range candidates {
		n := (int(h.Sum32()%candidates) + k) % candidates
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 4), byte(n << 4), 0}), networkBits)
		if !overlaps(p, taken) {
			a.subnet = p
			return a.j.Put(journal.Address, subnetID, subnetData{p.String()})
		}
	}
	return services.Errorf(services.Exhausted, "no network of 10.0.0.0/8 is free for the lab").WithRemedy("remove Docker networks that are not needed: docker network prune")
}

// chooseLoopback takes a block of 127.0.0.0/8, where every address is this
// machine's. Nothing says which blocks other labs have; two meet only if the
// digests of their folders do, and then the second one's ports are taken.
func (a *addresses) chooseLoopback(seed string) error {
	h := fnv.New32a()
	h.Write([]byte(seed))
	n := 1 + int(h.Sum32()%(1<<12-2)) // neither the first, which has 127.0.0.1, nor the last
	a.subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(n >> 4), byte(n << 4), 0}), networkBits)
	return a.j.Put(journal.Address, subnetID, subnetData{a.subnet.String()})
}

func overlaps(p netip.Prefix, taken []netip.Prefix) bool {
	for _, t := range taken {
		if p.Overlaps(t) {
			return true
		}
	}
	return false
}

// block returns the region's block, taking one when it has none.
func (a *addresses) block(region string) (netip.Prefix, error) {
	n, ok := a.blocks[region]
	if !ok {
		inUse := map[int]bool{}
		for _, b := range a.blocks {
			inUse[b] = true
		}
		for n = 1; inUse[n]; n++ {
		}
		if n >= maxBlocks {
			return netip.Prefix{}, services.Errorf(services.Exhausted, "the lab's network has room for %d regions", maxBlocks-1).WithRemedy("use fewer regions")
		}
		if err := a.j.Put(journal.Address, blockID+region, blockData{n}); err != nil {
			return netip.Prefix{}, err
		}
		a.blocks[region] = n
	}
	b := a.subnet.Addr().As4()
	b[2] += byte(n)
	return netip.PrefixFrom(netip.AddrFrom4(b), blockBits), nil
}

// of returns the address of a container, taking one of the region's block when
// it has none.
func (a *addresses) of(region, id string) (string, error) {
	if s, ok := a.byID[id]; ok {
		return s, nil
	}
	block, err := a.block(region)
	if err != nil {
		return "", err
	}
	for ip := block.Addr().Next(); block.Contains(ip.Next()); ip = ip.Next() { // the last one is left alone
		s := ip.String()
		if a.used[s] {
			continue
		}
		if err := a.j.Put(journal.Address, id, addressData{s}); err != nil {
			return "", err
		}
		a.byID[id], a.used[s] = s, true
		return s, nil
	}
	return "", services.Errorf(services.Exhausted, "every address of %s is taken", block).WithRemedy("declare fewer instances in %s, or pack them: --pack zone", region)
}

// release forgets the address of a container.
func (a *addresses) release(id string) error {
	s, ok := a.byID[id]
	if !ok {
		return nil
	}
	if err := a.j.Delete(journal.Address, id); err != nil {
		return err
	}
	delete(a.byID, id)
	delete(a.used, s)
	return nil
}

// releaseRegion gives the block of a region that is gone back.
func (a *addresses) releaseRegion(region string) error {
	delete(a.blocks, region)
	return a.j.Delete(journal.Address, blockID+region)
}

func (a *addresses) list() ([]runtime.Block, error) {
	var out []runtime.Block
	for region := range a.blocks {
		p, err := a.block(region)
		if err != nil {
			return nil, err
		}
		out = append(out, runtime.Block{Prefix: p, Region: region})
	}
	return out, nil
}

// machineNetworks are the networks this machine has interfaces in.
func machineNetworks() ([]netip.Prefix, error) {
	as, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("networks of this machine: %w", err)
	}
	var out []netip.Prefix
	for _, a := range as {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out, nil
}
