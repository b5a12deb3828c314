package wire

import (
	"strings"
	"time"
)

// verdict is what the conditions of a request come to.
type verdict int

const (
	proceed verdict = iota
	notModified
	failed
)

// conditions evaluates the preconditions of a GET or HEAD in the order of RFC
// 9110, 13.2.2.
func conditions(r *Request, m *Meta) verdict {
	if v := r.Join("If-Match"); v != "" {
		if !listed(v, m.ETag, false) {
			return failed
		}
	} else if v := r.Get("If-Unmodified-Since"); v != "" {
		if t, ok := parseTime(v); ok && !m.Modified.IsZero() && m.Modified.Truncate(time.Second).After(t) {
			return failed
		}
	}
	if v := r.Join("If-None-Match"); v != "" {
		if listed(v, m.ETag, true) {
			return notModified
		}
	} else if v := r.Get("If-Modified-Since"); v != "" {
		if t, ok := parseTime(v); ok && !m.Modified.IsZero() && !m.Modified.Truncate(time.Second).After(t) {
			return notModified
		}
	}
	return proceed
}

// rangeHolds evaluates If-Range (RFC 9110, 13.1.5): an entity tag matches only
// strongly; a date has to be the very one, and old enough to tell apart. Several
// at once are none that can be understood.
func rangeHolds(r *Request, m *Meta, now time.Time) bool {
	v := r.Join("If-Range")
	switch {
	case v == "":
		return true
	case strings.HasPrefix(v, `"`):
		return v == m.ETag
	case strings.HasPrefix(v, "W/"):
		return false
	}
	t, ok := parseTime(v)
	return ok && !m.Modified.IsZero() && t.Equal(m.Modified.Truncate(time.Second)) && now.Sub(t) >= time.Second
}

// listed says whether a list of entity tags, or "*", names the tag. The weak
// comparison overlooks a "W/"; the strong one matches no weak tag.
func listed(list, tag string, weak bool) bool {
	if list == "*" {
		return true
	}
	for list != "" {
		list = strings.TrimLeft(list, " \t,")
		rest, isWeak := strings.CutPrefix(list, "W/")
		if !strings.HasPrefix(rest, `"`) {
			return false
		}
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return false
		}
		if rest[:end+2] == tag && (weak || !isWeak) {
			return true
		}
		list = rest[end+2:]
	}
	return false
}

// parseTime reads an HTTP date in its three forms (RFC 9110, 5.6.7).
func parseTime(v string) (time.Time, bool) {
	for _, layout := range [...]string{httpDate, time.RFC850, time.ANSIC} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"
