package evcache

import (
	"math"
	"strconv"
)

// blank says what C's isspace takes for one.
func blank(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }

// number reads an integer as C's strtoull does, and so as memcached does:
// blanks and a sign may stand before its digits, and it ends with the word, at a
// blank or at a NUL. It does not fit into 64 bits otherwise.
func number(word []byte) (n uint64, minus, ok bool) {
	for len(word) > 0 && blank(word[0]) {
		word = word[1:]
	}
	if len(word) > 0 && (word[0] == '+' || word[0] == '-') {
		minus, word = word[0] == '-', word[1:]
	}
	end := 0
	for end < len(word) && word[end] >= '0' && word[end] <= '9' {
		end++
	}
	if end < len(word) && word[end] != 0 && !blank(word[end]) {
		return 0, false, false
	}
	n, err := strconv.ParseUint(string(word[:end]), 10, 64)
	return n, minus, err == nil
}

// unsigned reads a number without a sign. As with strtoull one with a minus is
// counted from the end of the range, and refused where that shows.
func unsigned(word []byte) (uint64, bool) {
	n, minus, ok := number(word)
	if minus {
		n = -n
	}
	return n, ok && !(minus && n > math.MaxInt64)
}

// signed reads a number of 64 bits and cuts it to the 32 that memcached keeps of
// times and sizes.
func signed(word []byte) (int64, bool) {
	n, minus, ok := number(word)
	switch {
	case minus && n <= math.MaxInt64+1:
		n = -n
	case minus || n > math.MaxInt64:
		return 0, false
	}
	return int64(int32(n)), ok
}
