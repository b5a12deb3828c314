package objects

import (
	"strconv"
	"strings"
)

// span is a part of an object: length bytes from offset.
type span struct {
	offset, length int64
}

// parseRange reads a Range header (RFC 9110, section 14.2) against an object
// of the given size. Like S3 it ignores what it cannot read and a list of
// several ranges (ok is false: send everything), and fails with InvalidRange
// when nothing of the object lies in the range.
func parseRange(header string, size int64) (s span, ok bool, err error) {
	spec, found := strings.CutPrefix(header, "bytes=")
	if !found || strings.Contains(spec, ",") {
		return span{}, false, nil
	}
	first, last, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return span{}, false, nil
	}
	if first == "" {
		n, valid := parseDigits(last)
		if !valid {
			return span{}, false, nil
		}
		n = min(n, size)
		if n == 0 {
			return span{}, false, errInvalidRange
		}
		return span{size - n, n}, true, nil
	}
	from, valid := parseDigits(first)
	if !valid {
		return span{}, false, nil
	}
	to := size - 1
	if last != "" {
		if to, valid = parseDigits(last); !valid || to < from {
			return span{}, false, nil
		}
	}
	if from >= size {
		return span{}, false, errInvalidRange
	}
	return span{from, min(to, size-1) - from + 1}, true, nil
}

// parseDigits reads a number of decimal digits only.
func parseDigits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
