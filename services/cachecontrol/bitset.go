package cachecontrol

import "math/bits"

// bitset is a set of small integers. With a title's files numbered, what an
// appliance holds of ten thousand files takes a kilobyte and the question of
// what it lacks is a handful of word operations.
type bitset []uint64

func (b *bitset) set(i int32) {
	w := int(i >> 6)
	if w >= len(*b) {
		*b = append(*b, make([]uint64, w+1-len(*b))...)
	}
	(*b)[w] |= 1 << (i & 63)
}

// add makes it the union with another set.
func (b *bitset) add(o bitset) {
	if len(o) > len(*b) {
		*b = append(*b, make([]uint64, len(o)-len(*b))...)
	}
	for w, word := range o {
		(*b)[w] |= word
	}
}

func (b bitset) clear(i int32) {
	if w := int(i >> 6); w < len(b) {
		b[w] &^= 1 << (i & 63)
	}
}

// len counts the members.
func (b bitset) len() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

func (b bitset) has(i int32) bool {
	w := int(i >> 6)
	return w < len(b) && b[w]&(1<<(i&63)) != 0
}

// next returns the smallest member that is at least from, or -1.
func (b bitset) next(from int32) int32 {
	for w := int(from >> 6); w < len(b); w++ {
		word := b[w]
		if w == int(from>>6) {
			word &= ^uint64(0) << (from & 63)
		}
		if word != 0 {
			return int32(w<<6 + bits.TrailingZeros64(word))
		}
	}
	return -1
}

// each calls f with every member that is not in except, in ascending order.
func (b bitset) each(except bitset, f func(int32)) {
	for w, word := range b {
		if w < len(except) {
			word &^= except[w]
		}
		for ; word != 0; word &= word - 1 {
			f(int32(w<<6 + bits.TrailingZeros64(word)))
		}
	}
}
