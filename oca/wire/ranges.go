package wire

import "strings"

// span is a part of a file: length bytes from off.
type span struct{ off, length int64 }

// maxRanges is how many ranges one request may ask for; one with more is
// answered as if it had asked for none (RFC 9110, 14.2 and 17.15).
const maxRanges = 32

// outcome says what a Range field comes to.
type outcome int

const (
	// whole: there is no range, or none that is understood.
	whole outcome = iota
	// partial: the spans are to be sent.
	partial
	// unsatisfiable: no range lies inside the file.
	unsatisfiable
)

// parseRanges reads a Range field for a file of size bytes (RFC 9110, 14.1.2).
// A malformed one, one of another unit and one with too many ranges ask for
// nothing. Ranges that overlap are joined; those that do not stay in the order
// asked for. The spans are appended to out.
func parseRanges(value string, size int64, out []span) ([]span, outcome) {
	unit, set, ok := strings.Cut(value, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return out, whole
	}
	asked := 0
	start := len(out)
	for set != "" {
		var spec string
		spec, set, _ = strings.Cut(set, ",")
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // RFC 9110, 5.6.1.2: empty elements count for nothing
		}
		if asked++; asked > maxRanges {
			return out[:start], whole
		}
		s, inside, ok := parseRange(spec, size)
		if !ok {
			return out[:start], whole
		}
		if inside {
			out = append(out, s)
		}
	}
	switch {
	case asked == 0:
		return out[:start], whole
	case len(out) == start:
		return out, unsatisfiable
	}
	return out[:start+join(out[start:])], partial
}

// parseRange reads "first-last", "first-" or "-suffix". inside is whether any
// byte of the file is meant, ok whether it can be read at all.
func parseRange(spec string, size int64) (s span, inside, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return span{}, false, false
	}
	if first == "" {
		n, ok := number(last)
		n = min(n, size)
		return span{size - n, n}, n > 0, ok
	}
	from, ok := number(first)
	if !ok {
		return span{}, false, false
	}
	to := size - 1
	if last != "" {
		n, ok := number(last)
		if !ok || n < from {
			return span{}, false, false
		}
		to = min(to, n)
	}
	if from >= size {
		return span{}, false, true
	}
	return span{from, to - from + 1}, true, true
}

// number reads digits; what is too large for any file stays too large.
func number(s string) (int64, bool) {
	const most = 1 << 62
	n := int64(0)
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		if n = n*10 + int64(s[i]-'0'); n > most/10 {
			n = most / 10
		}
	}
	return n, s != ""
}

// join merges spans that overlap and returns how many are left. A client that asks
// for parts out of order gets them so, unless some overlap.
func join(s []span) int {
	overlap := false
	for i := range s {
		for j := range i {
			overlap = overlap || s[i].off < s[j].off+s[j].length && s[j].off < s[i].off+s[i].length
		}
	}
	if !overlap {
		return len(s)
	}
	for i := 1; i < len(s); i++ { // insertion: there are few
		for j := i; j > 0 && s[j].off < s[j-1].off; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	n := 0
	for _, next := range s[1:] {
		if last := &s[n]; next.off < last.off+last.length {
			last.length = max(last.length, next.off+next.length-last.off)
			continue
		}
		n++
		s[n] = next
	}
	return n + 1
}
