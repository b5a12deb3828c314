// Package cmcd reads Common Media Client Data (CTA-5004, versions 1 and 2) from
// a request's header fields or query.
//
// It is tolerant, as a server of it has to be: what is malformed is counted and
// left out, and never keeps a request from being served.
package cmcd

import (
	"net/url"
	"strconv"
	"strings"
)

const (
	// MaxLength in bytes bounds what is read of one request's data.
	MaxLength = 4096
	// maxKeys bounds its keys.
	maxKeys = 64
)

// Headers are the fields that carry the data when the query does not.
var Headers = [...]string{"CMCD-Object", "CMCD-Request", "CMCD-Session", "CMCD-Status"}

// Data is what a client said of itself.
type Data struct {
	// Values by key: bool, int64, float64, or string (strings, tokens, and
	// the inner lists of version 2 as sent).
	Values map[string]any
	// Bad is how many pairs were malformed, or of another type than their key
	// has.
	Bad int
}

// kind is the type of a key's value.
type kind byte

const (
	anything kind = iota
	integer
	decimal
	boolean
	text // a quoted string
	word // a token
	listOfIntegers
)

// kindOf is the type that CTA-5004 gives a key. Version 2 lets some integers
// be lists of them, one per kind of object.
func kindOf(key string) kind {
	switch key {
	case "br", "bl", "tb", "mtp", "ab", "lb", "lab", "tab", "pb", "tbl", "tpb":
		return listOfIntegers
	case "d", "dl", "rtp", "ts", "v", "sn", "dfa", "ltc", "msd", "bsd", "bsda", "ttfb", "ttfbb", "ttlb", "rc":
		return integer
	case "pr":
		return decimal
	case "bs", "su", "bg":
		return boolean
	case "cid", "sid", "nrr", "url", "h", "cdn", "cen", "cs":
		return text
	case "ot", "sf", "st", "e", "sta":
		return word
	}
	return anything
}

// FromQuery reads the value of the query argument CMCD in a query as sent; ok
// is whether there is one.
func FromQuery(query string) (d Data, ok bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		value, found := strings.CutPrefix(pair, "CMCD=")
		if !found {
			continue
		}
		decoded, err := url.QueryUnescape(value)
		if err != nil {
			return Data{Bad: 1}, true
		}
		d.add(decoded)
		return d, true
	}
	return d, false
}

// FromHeaders reads the data of the header fields that get knows; ok is
// whether there is any.
func FromHeaders(get func(name string) string) (d Data, ok bool) {
	for _, name := range Headers {
		if v := get(name); v != "" {
			d.add(v)
			ok = true
		}
	}
	return d, ok
}

// add reads "key=value,flag,other="text"". A key that comes twice keeps its
// last value.
func (d *Data) add(s string) {
	if len(s) > MaxLength {
		d.Bad++
		return
	}
	if d.Values == nil {
		d.Values = map[string]any{}
	}
	for s = trim(s); s != ""; s = trim(s) {
		key, rest := token(s)
		if key == "" {
			d.Bad++
			s = strings.TrimPrefix(comma(s), ",")
			continue
		}
		value, rest, ok := valueOf(rest)
		if rest = trim(rest); rest != "" && rest[0] != ',' {
			ok, rest = false, comma(rest)
		}
		s = strings.TrimPrefix(rest, ",")
		if !ok || !fits(kindOf(key), value) || len(d.Values) >= maxKeys {
			d.Bad++
			continue
		}
		if n, ok := value.(int64); ok && kindOf(key) == decimal {
			value = float64(n)
		}
		d.Values[key] = value
	}
}

// valueOf reads what follows a key: "=" and a value, or nothing for true.
func valueOf(s string) (value any, rest string, ok bool) {
	if s == "" || s[0] != '=' {
		return true, s, true
	}
	s = s[1:]
	switch {
	case s == "":
		return nil, s, false
	case s[0] == '"':
		return quoted(s[1:])
	case s[0] == '(':
		return list(s)
	case strings.HasPrefix(s, "?0"), strings.HasPrefix(s, "?1"):
		return s[1] == '1', s[2:], true
	}
	word, rest := token(s)
	switch {
	case word == "":
		return nil, s, false
	case word == "true", word == "false":
		return word == "true", rest, true
	}
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return n, rest, true
	}
	if c := word[0]; c >= '0' && c <= '9' || c == '-' {
		if f, err := strconv.ParseFloat(word, 64); err == nil && !strings.ContainsAny(word, "xXpPiInN_") {
			return f, rest, true
		}
	}
	return word, rest, true
}

// quoted reads a string up to its closing quote; a backslash stands before a
// quote or a backslash.
func quoted(s string) (any, string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return nil, comma(s), false
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return nil, comma(s), false
		default:
			b.WriteByte(c)
		}
	}
	return nil, "", false
}

// list reads an inner list and keeps it as it was sent.
func list(s string) (any, string, bool) {
	in := false
	for i := range len(s) {
		switch {
		case s[i] == '"' && s[i-1] != '\\':
			in = !in
		case s[i] == ')' && !in:
			return s[:i+1], s[i+1:], true
		}
	}
	return nil, "", false
}

func fits(k kind, v any) bool {
	switch v := v.(type) {
	case bool:
		return k == anything || k == boolean
	case int64:
		return k == anything || k == integer && v >= 0 || k == listOfIntegers && v >= 0 || k == decimal || k == word
	case float64:
		return k == anything || k == decimal
	case string:
		if strings.HasPrefix(v, "(") {
			return k == anything || k == listOfIntegers || k == text
		}
		return k == anything || k == text || k == word
	}
	return false
}

// token reads the longest run of characters a key or a bare value may have.
func token(s string) (word, rest string) {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._*:/+", c) >= 0:
		default:
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// comma skips to the next comma.
func comma(s string) string {
	if n := strings.IndexByte(s, ','); n >= 0 {
		return s[n:]
	}
	return ""
}

func trim(s string) string { return strings.Trim(s, " \t") }
