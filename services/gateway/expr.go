package gateway

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The language of a route's condition ("when"):
//
//	condition = all { ("||" | "or") all }
//	all       = one { ("&&" | "and") one }
//	one       = ("!" | "not") one | "(" condition ")" | test
//	test      = field op value
//	          | field ["not"] "in" "(" value { "," value } ")"
//	          | "percent" "(" number [ "," value ] ")"
//	field     = "host" | "path" | "method" | "country" | "device" | "isp" | "member" | "plan"
//	          | "client" | "region" | "zone" | "header" "(" value ")" | "query" "(" value ")"
//	op        = "==" | "!=" | "^=" (begins with) | "$=" (ends with) | "*=" (contains) | "=~" (RE2)
//	value     = '"' text '"' | "'" text "'" | a word of letters, digits and -_./:*%@+
//
// Values of client are addresses or prefixes and know ==, != and in. A field
// that the request does not have is "". percent takes a share of the viewers,
// the same ones for the same value (by default the route's name): see
// stickyKey.

// Bounds of a condition.
const (
	maxExpression = 4096 // bytes
	maxDepth      = 32   // parentheses and negations
	maxTests      = 128
)

// Condition is a checked condition.
type Condition struct {
	text string
	root node
}

// String is the condition as it was written.
func (c *Condition) String() string { return c.text }

// holds says whether the condition is true of a request.
func (c *Condition) holds(f facts) bool { return c == nil || c.root.holds(f) }

// facts are what a condition may ask of: the request, and where the gateway is.
type facts struct {
	ex           *Exchange
	region, zone string
}

type node interface{ holds(facts) bool }

type (
	allOf []node
	anyOf []node
	notOf struct{ of node }
)

func (n allOf) holds(f facts) bool {
	for _, x := range n {
		if !x.holds(f) {
			return false
		}
	}
	return true
}

func (n anyOf) holds(f facts) bool {
	for _, x := range n {
		if x.holds(f) {
			return true
		}
	}
	return false
}

func (n notOf) holds(f facts) bool { return !n.of.holds(f) }

// field is what a test looks at.
type field struct {
	name string
	arg  string // of header and query
}

// fieldNames in the order that an error lists them.
var fieldNames = []string{"client", "country", "device", "header", "host", "isp", "member", "method", "path", "plan", "query", "region", "zone"}

func (fd field) of(f facts) string {
	ex := f.ex
	switch fd.name {
	case "host":
		return hostName(ex.Request.Host)
	case "path":
		return ex.Request.Path
	case "method":
		return ex.Request.Method
	case "country":
		return ex.Country
	case "device":
		return ex.Device
	case "isp":
		return ex.ISP
	case "member":
		if ex.Member != nil {
			return ex.Member.Member
		}
	case "plan":
		if ex.Member != nil {
			return ex.Member.Plan
		}
	case "region":
		return f.region
	case "zone":
		return f.zone
	case "header":
		return ex.Request.Header.Get(fd.arg)
	case "query":
		return queryValue(ex.Request.Query, fd.arg)
	}
	return ""
}

// compare tests a text.
type compare struct {
	field field
	op    string
	value string
	re    *regexp.Regexp
}

func (n *compare) holds(f facts) bool {
	v := n.field.of(f)
	switch n.op {
	case "==":
		return v == n.value
	case "!=":
		return v != n.value
	case "^=":
		return strings.HasPrefix(v, n.value)
	case "$=":
		return strings.HasSuffix(v, n.value)
	case "*=":
		return strings.Contains(v, n.value)
	case "=~":
		return n.re.MatchString(v)
	}
	return false
}

// among tests whether a text is one of several.
type among struct {
	field  field
	values []string
}

func (n *among) holds(f facts) bool { return slices.Contains(n.values, n.field.of(f)) }

// within tests whether the client's address lies in one of several networks.
type within []netip.Prefix

func (n within) holds(f facts) bool {
	for _, p := range n {
		if p.Contains(f.ex.Client) {
			return true
		}
	}
	return false
}

// share tests whether the viewer is among a share of them.
type share struct {
	of   float64 // 0 to 1
	salt string
}

func (n share) holds(f facts) bool { return chosen(f.ex, n.of, n.salt) }

// chosen says whether the request's viewer is among a share of all. Whoever is
// at a share is so at every larger one of the same salt; two salts choose
// without regard to one another.
func chosen(ex *Exchange, of float64, salt string) bool {
	return of >= 1 || (of > 0 && position(salt, stickyKey(ex)) < of)
}

// hostName is a Host without its port, in lower case.
func hostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return strings.ToLower(host)
}

// queryValue is the first value of a name in a query, percent-encoding
// resolved; "" if it is not there or not well-formed.
func queryValue(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		k, v, _ := strings.Cut(pair, "=")
		if unescape(k) == name {
			return unescape(v)
		}
	}
	return ""
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return ""
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return ""
			}
			out = append(out, byte(n))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return string(out)
}
