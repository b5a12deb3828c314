package steering

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/gaissmai/bart"
)

// prefixes is the routing table: who announces a prefix. Decisions read it without
// a lock while one goroutine changes it, and see a change at once.
//
// It is in blocks, by the first 16 bits of an address of IPv4 and the first 32 of
// one of IPv6. A block lists the prefixes that cover some of it in the order of
// their first addresses, each with the one that it lies in: what covers an address
// is found by one search in a few cache lines, and the rest by going up from
// there. A change copies one block; a prefix of IPv4 shorter than a block is in
// all that it covers.
type prefixes struct {
	v4 [1 << base4]atomic.Pointer[block4]
	v6 atomic.Pointer[blocks6]
	// odd are the prefixes of IPv6 that are shorter than a block, or longer than
	// what is compared inside one. There are few.
	odd atomic.Pointer[bart.Table[*origin]]
}

const (
	// base4 and base6 are the bits that choose a block, fine6 those that a
	// prefix of IPv6 may have to be in one.
	base4, base6, fine6 = 16, 32, base6 + 64
)

// block is immutable.
type block struct{ entries []entry }

// block4 is a block of IPv4 with an index, so that the search has less to look at.
type block4 struct {
	block
	// ends says for each four bits after the block's how many entries begin at
	// them or before; it is of no use to more entries than fit, and then not used.
	ends [16]uint16
}

// plain is the block; nil stays nil.
func (b *block4) plain() *block {
	if b == nil {
		return nil
	}
	return &b.block
}

// indexed is a block with its index; nil stays nil.
func indexed(b *block) *block4 {
	if b == nil {
		return nil
	}
	out := &block4{block: *b}
	if len(b.entries) > math.MaxUint16 {
		return out
	}
	for i := range b.entries {
		out.ends[b.entries[i].from>>60]++
	}
	for k := 1; k < len(out.ends); k++ {
		out.ends[k] += out.ends[k-1]
	}
	return out
}

// find is block.find with the help of the index.
func (b *block4) find(at uint64) int32 {
	if b == nil {
		return -1
	}
	lo, hi := 0, len(b.entries)
	if hi <= math.MaxUint16 {
		k := at >> 60
		hi = int(b.ends[k])
		if k > 0 {
			lo = int(b.ends[k-1])
		}
	}
	return b.search(at, base4, lo, hi)
}

// entry is a prefix in a block.
type entry struct {
	from uint64 // the bits of its first address after those of the block, to the left
	o    *origin
	up   int32 // the entry of the prefix that it lies in, or -1
	bits uint8 // of the prefix
}

func newPrefixes() *prefixes {
	p := new(prefixes)
	p.v6.Store(newBlocks6(0))
	p.odd.Store(new(bart.Table[*origin]))
	return p
}

// mask is those bits after the block's that a prefix fixes.
func mask(inner int) uint64 {
	if inner <= 0 {
		return 0
	}
	return ^uint64(0) << (64 - inner)
}

// holds says that an address, or the first one of a longer prefix, lies in it.
func (e *entry) holds(at uint64, base int) bool {
	return (at^e.from)&mask(int(e.bits)-base) == 0
}

// find returns the index of the longest prefix that covers an address; -1 is
// none.
func (b *block) find(at uint64, base int) int32 {
	if b == nil {
		return -1
	}
	return b.search(at, base, 0, len(b.entries))
}

// search is find where the first entry that begins behind the address is known to
// be from lo to hi.
func (b *block) search(at uint64, base, lo, hi int) int32 {
	for lo < hi {
		if m := int(uint(lo+hi) / 2); b.entries[m].from <= at {
			lo = m + 1
		} else {
			hi = m
		}
	}
	// Of those that begin before it, who does not hold it cannot lie in who does,
	// but the other way round.
	i := int32(lo) - 1
	for i >= 0 && !b.entries[i].holds(at, base) {
		i = b.entries[i].up
	}
	return i
}

// where is an entry's place, and whether it is there.
func (b *block) where(from uint64, bits uint8) (int, bool) {
	if b == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(b.entries, entry{from: from, bits: bits}, func(a, b entry) int {
		switch {
		case a.from < b.from || a.from == b.from && a.bits < b.bits:
			return -1
		case a.from == b.from && a.bits == b.bits:
			return 0
		}
		return 1
	})
}

// with is the block with an entry, or without it when o is nil; nil is empty.
func (b *block) with(from uint64, bits uint8, o *origin, base int) *block {
	i, had := b.where(from, bits)
	switch {
	case had && o != nil:
		out := &block{slices.Clone(b.entries)}
		out.entries[i].o = o
		return out
	case had && len(b.entries) == 1 || !had && o == nil:
		if had {
			return nil
		}
		return b
	case had:
		out := &block{make([]entry, 0, len(b.entries)-1)}
		out.entries = append(append(out.entries, b.entries[:i]...), b.entries[i+1:]...)
		out.nest(base)
		return out
	}
	var old []entry
	if b != nil {
		old = b.entries
	}
	out := &block{make([]entry, 0, len(old)+1)}
	out.entries = append(append(append(out.entries, old[:i]...), entry{from: from, o: o, bits: bits}), old[i:]...)
	out.nest(base)
	return out
}

// nest finds for every entry the one that it lies in: the nearest before it that
// holds it.
func (b *block) nest(base int) {
	for i := range b.entries {
		e := &b.entries[i]
		e.up = int32(i) - 1
		for e.up >= 0 && !b.entries[e.up].holds(e.from, base) {
			e.up = b.entries[e.up].up
		}
	}
}

// inside4 and inside6 split an address into the number of its block and the bits
// after it.
func inside4(a netip.Addr) (uint32, uint64) {
	b := a.As4()
	x := binary.BigEndian.Uint32(b[:])
	return x >> (32 - base4), uint64(x) << (32 + base4)
}

func inside6(a netip.Addr) (uint32, uint64) {
	b := a.As16()
	return binary.BigEndian.Uint32(b[:]), binary.BigEndian.Uint64(b[base6/8:])
}

// get returns who announces a prefix; nil is nobody. The prefix is masked.
func (p *prefixes) get(x netip.Prefix) *origin {
	var b *block
	var from uint64
	switch bits := x.Bits(); {
	case x.Addr().Is4():
		var n uint32
		n, from = inside4(x.Addr())
		b = p.v4[n].Load().plain()
	case bits < base6 || bits > fine6:
		o, _ := p.odd.Load().Get(x)
		return o
	default:
		var n uint32
		n, from = inside6(x.Addr())
		b = p.v6.Load().get(n)
	}
	if i, ok := b.where(from, uint8(x.Bits())); ok {
		return b.entries[i].o
	}
	return nil
}

// set says who announces a prefix; nil is nobody any more. The prefix is masked.
func (p *prefixes) set(x netip.Prefix, o *origin) {
	bits := x.Bits()
	switch {
	case x.Addr().Is4():
		n, from := inside4(x.Addr())
		for end := n + 1<<max(0, base4-bits); n < end; n++ {
			p.v4[n].Store(indexed(p.v4[n].Load().plain().with(from, uint8(bits), o, base4)))
		}
	case (bits < base6 || bits > fine6) && o == nil:
		p.odd.Store(p.odd.Load().DeletePersist(x))
	case bits < base6 || bits > fine6:
		p.odd.Store(p.odd.Load().InsertPersist(x, o))
	default:
		n, from := inside6(x.Addr())
		all := p.v6.Load()
		if b := all.get(n).with(from, uint8(bits), o, base6); !all.put(n, b) {
			all = all.grown()
			all.put(n, b)
			p.v6.Store(all)
		}
	}
}

// cover is what covers an address: the longest prefix, as its block and the index
// of its entry, from which the others are up; -1 is none. odd says that there may
// be some beside.
type cover struct {
	b   *block
	i   int32
	odd bool
}

// find returns what covers an address.
func (p *prefixes) find(addr netip.Addr) cover {
	if addr.Is4() {
		n, at := inside4(addr)
		x := p.v4[n].Load()
		return cover{x.plain(), x.find(at), false}
	}
	n, at := inside6(addr)
	b := p.v6.Load().get(n)
	return cover{b, b.find(at, base6), p.odd.Load().Size() > 0}
}

// covering yields who announces the prefixes that cover an address, by their
// length, longest first.
func (p *prefixes) covering(addr netip.Addr) func(yield func(bits int, o *origin) bool) {
	return func(yield func(int, *origin) bool) {
		c := p.find(addr)
		if c.odd && !p.beside(addr, true, yield) {
			return
		}
		for i := c.i; i >= 0; i = c.b.entries[i].up {
			if e := &c.b.entries[i]; !yield(int(e.bits), e.o) {
				return
			}
		}
		if c.odd {
			p.beside(addr, false, yield)
		}
	}
}

// beside yields those that are in no block, the finer ones or the others, and
// says whether more is wanted.
func (p *prefixes) beside(addr netip.Addr, fine bool, yield func(int, *origin) bool) bool {
	for x, o := range p.odd.Load().Supernets(netip.PrefixFrom(addr, addr.BitLen())) {
		if (x.Bits() > fine6) == fine && !yield(x.Bits(), o) {
			return false
		}
	}
	return true
}

// blocks6 is a hash table with open addressing, half full at the most, of the
// blocks of IPv6. A block that has become empty keeps its place.
type blocks6 struct {
	cells []cell6 // a power of two
	used  int     // the writer's
}

type cell6 struct {
	key atomic.Uint64 // the block's number and 1<<32; 0 is free
	b   atomic.Pointer[block]
}

const taken6 = 1 << 32

func newBlocks6(n int) *blocks6 {
	size := 16
	for size < 2*n {
		size *= 2
	}
	return &blocks6{cells: make([]cell6, size)}
}

// cell is the place of a block, or the free one where it would be.
func (t *blocks6) cell(n uint32) *cell6 {
	for i := mix(uint64(n)); ; i++ {
		c := &t.cells[i&uint64(len(t.cells)-1)]
		if k := c.key.Load(); k == 0 || k == taken6|uint64(n) {
			return c
		}
	}
}

func (t *blocks6) get(n uint32) *block { return t.cell(n).b.Load() }

// put sets a block and says whether there was room for it.
func (t *blocks6) put(n uint32, b *block) bool {
	c := t.cell(n)
	if c.key.Load() == 0 {
		if b == nil {
			return true
		}
		if 2*(t.used+1) > len(t.cells) {
			return false
		}
		t.used++
		c.b.Store(b) // first: who finds the key finds the block
		c.key.Store(taken6 | uint64(n))
		return true
	}
	c.b.Store(b)
	return true
}

// grown is a copy with room for as many again; empty blocks are left out.
func (t *blocks6) grown() *blocks6 {
	full := 0
	for i := range t.cells {
		if t.cells[i].b.Load() != nil {
			full++
		}
	}
	out := newBlocks6(2 * (full + 1))
	for i := range t.cells {
		if b := t.cells[i].b.Load(); b != nil {
			out.put(uint32(t.cells[i].key.Load()), b)
		}
	}
	return out
}
