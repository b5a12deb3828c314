package steering

// An appliance's slot is a small number, so that a set of appliances is a few
// words, and who holds a title of those that announce a client is an AND.

// slotSet is an immutable set of slots.
type slotSet []uint64

func (b slotSet) has(n int) bool { return b.word(n/64)&(1<<(n%64)) != 0 }

// word is the slots from 64n to 64n+63.
func (b slotSet) word(n int) uint64 {
	if n < len(b) {
		return b[n]
	}
	return 0
}

// with is the set with or without a slot.
func (b slotSet) with(n int, in bool) slotSet {
	out := make(slotSet, max(len(b), n/64+1))
	copy(out, b)
	if in {
		out[n/64] |= 1 << (n % 64)
	} else {
		out[n/64] &^= 1 << (n % 64)
	}
	return out
}

func (b slotSet) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

// patch is those slots of one word of a set that are in a smaller one.
type patch struct {
	mask uint64
	word int
}

// add puts a slot into a group, which takes them in ascending order.
func (g *group) add(slot int) {
	if n := len(g.slots); n == 0 || g.slots[n-1].word != slot/64 {
		g.slots = append(g.slots, patch{word: slot / 64})
	}
	g.slots[len(g.slots)-1].mask |= 1 << (slot % 64)
}

// seenInline is how many words of seen lie on the stack.
const seenInline = 64

// seen is the slots that a decision has looked at.
type seen struct {
	low  [seenInline]uint64
	high slotSet
}

// add puts slots in and returns those that were not.
func (s *seen) add(x patch) (fresh uint64) {
	w := s.at(x.word)
	fresh = x.mask &^ *w
	*w |= x.mask
	return fresh
}

func (s *seen) at(word int) *uint64 {
	if word < seenInline {
		return &s.low[word]
	}
	if n := word - seenInline; n >= len(s.high) {
		s.high = append(s.high, make(slotSet, n+1-len(s.high))...)
	}
	return &s.high[word-seenInline]
}
