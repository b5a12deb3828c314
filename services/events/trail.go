package events

import "sort"

// trailLength is how many records of a partition the trail reaches back at least.
const trailLength = 1024

// trail remembers where the last records of a partition went that were copied, so
// that a group which is a little behind costs no reading of the log. Both offsets
// ascend.
type trail []pair

// with notes a record that was copied after all before it.
func (t trail) with(p pair) trail {
	if len(t) == 2*trailLength {
		t = append(t[:0], t[trailLength:]...)
	}
	return append(t, p)
}

// find returns the offset of the copy of the last record that is not after an
// offset in the source; ok is false when the trail does not reach back so far.
func (t trail) find(source int64) (copied int64, ok bool) {
	after := sort.Search(len(t), func(i int) bool { return t[i].source > source })
	if after == 0 {
		return 0, false
	}
	return t[after-1].copy, true
}
