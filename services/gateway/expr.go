package gateway

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
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

// ParseCondition reads a condition. salt is what percent means where it names
// none. Errors are Invalid and say at which character it stops making sense.
func ParseCondition(text, salt string) (*Condition, error) {
	if len(text) > maxExpression {
		return nil, services.Errorf(services.Invalid, "the condition has %d bytes, at most %d are taken", len(text), maxExpression)
	}
	p := &parser{text: text, salt: salt}
	p.next()
	n := p.condition(0)
	if p.err == nil && p.tok.kind != tokenEnd {
		p.fail("%s is one word too many: join tests with && or ||", p.tok)
	}
	if p.err != nil {
		return nil, p.err
	}
	return &Condition{text, n}, nil
}

// parser is a recursive descent over the grammar above. The first error stays.
type parser struct {
	text, salt string
	pos        int
	tok        lexeme
	tests      int
	err        error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = services.Errorf(services.Invalid, "at character %d of %q: %s", p.tok.at+1, p.text, fmt.Sprintf(format, args...)).
			WithRemedy(`write it like: country in (US, CA) && device == tv && percent(5)`)
	}
	p.tok = lexeme{kind: tokenEnd, at: len(p.text)}
	p.pos = len(p.text)
}

func (p *parser) condition(depth int) node {
	if depth > maxDepth {
		p.fail("it is nested more than %d deep", maxDepth)
		return nil
	}
	n := anyOf{p.all(depth)}
	for p.tok.is("||", "or") {
		p.next()
		n = append(n, p.all(depth))
	}
	if len(n) == 1 {
		return n[0]
	}
	return n
}

func (p *parser) all(depth int) node {
	n := allOf{p.one(depth)}
	for p.tok.is("&&", "and") {
		p.next()
		n = append(n, p.one(depth))
	}
	if len(n) == 1 {
		return n[0]
	}
	return n
}

func (p *parser) one(depth int) node {
	switch {
	case p.err != nil:
		return nil
	case depth > maxDepth:
		p.fail("it is nested more than %d deep", maxDepth)
		return nil
	case p.tok.is("!", "not"):
		p.next()
		return notOf{p.one(depth + 1)}
	case p.tok.is("("):
		p.next()
		n := p.condition(depth + 1)
		p.expect(")")
		return n
	}
	return p.test()
}

func (p *parser) expect(symbol string) {
	if p.err == nil && !p.tok.is(symbol) {
		p.fail("%s stands where %q should", p.tok, symbol)
		return
	}
	p.next()
}

func (p *parser) value() string {
	if p.err != nil {
		return ""
	}
	if p.tok.kind != tokenWord && p.tok.kind != tokenText {
		p.fail("%s stands where a value should", p.tok)
		return ""
	}
	v := p.tok.text
	p.next()
	return v
}

func (p *parser) test() node {
	if p.tests++; p.tests > maxTests {
		p.fail("it has more than %d tests", maxTests)
		return nil
	}
	if p.tok.kind != tokenWord {
		p.fail("%s stands where a field should: %s", p.tok, strings.Join(fieldNames, ", "))
		return nil
	}
	if p.tok.text == "percent" {
		p.next()
		return p.percent()
	}
	fd := field{name: p.tok.text}
	if !slices.Contains(fieldNames, fd.name) {
		p.fail("there is no field %q; the fields are %s and percent(n)", fd.name, strings.Join(fieldNames, ", "))
		return nil
	}
	p.next()
	if fd.name == "header" || fd.name == "query" {
		p.expect("(")
		fd.arg = p.value()
		if p.err == nil && fd.arg == "" {
			p.fail("%s needs a name", fd.name)
		}
		p.expect(")")
	}
	return p.comparison(fd)
}

func (p *parser) percent() node {
	p.expect("(")
	at := p.tok
	n, err := strconv.ParseFloat(strings.TrimSuffix(p.value(), "%"), 64)
	if p.err == nil && (err != nil || !(n >= 0 && n <= 100)) {
		p.tok = at
		p.fail("%s is not a percentage from 0 to 100", at)
	}
	s := share{n / 100, p.salt}
	if p.tok.is(",") {
		p.next()
		s.salt = p.value()
	}
	p.expect(")")
	return s
}

func (p *parser) comparison(fd field) node {
	negated := p.tok.is("not")
	if negated {
		p.next()
	}
	switch {
	case p.err != nil:
		return nil
	case p.tok.is("in"):
		p.next()
		n := p.list(fd)
		if negated {
			return notOf{n}
		}
		return n
	case negated || p.tok.kind != tokenOp:
		p.fail("%s stands where a comparison should: ==, !=, ^=, $=, *=, =~ or in (…)", p.tok)
		return nil
	}
	op := p.tok.text
	p.next()
	at := p.tok
	v := p.value()
	if p.err != nil {
		return nil
	}
	if fd.name == "client" {
		n := p.networks([]lexeme{at})
		switch op {
		case "==":
			return n
		case "!=":
			return notOf{n}
		}
		p.tok = at
		p.fail("client knows ==, != and in, not %s", op)
		return nil
	}
	if op == "==" || op == "!=" {
		p.known(fd, at)
	}
	n := &compare{field: fd, op: op, value: fd.canonical(v)}
	if op == "=~" {
		re, err := regexp.Compile(v)
		if err != nil {
			p.tok = at
			p.fail("%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			return nil
		}
		n.re = re
	}
	return n
}

// list reads what follows "in".
func (p *parser) list(fd field) node {
	var words []lexeme
	p.expect("(")
	for p.err == nil {
		words = append(words, p.tok)
		p.value()
		if !p.tok.is(",") {
			break
		}
		p.next()
	}
	p.expect(")")
	if p.err != nil {
		return nil
	}
	if fd.name == "client" {
		return p.networks(words)
	}
	n := &among{field: fd}
	for _, w := range words {
		p.known(fd, w)
		n.values = append(n.values, fd.canonical(w.text))
	}
	return n
}

func (p *parser) networks(words []lexeme) within {
	var n within
	for _, w := range words {
		pre, err := netip.ParsePrefix(w.text)
		if err != nil {
			a, aerr := netip.ParseAddr(w.text)
			if aerr != nil {
				p.tok = w
				p.fail("%s is neither an address nor a prefix", w)
				return nil
			}
			pre = netip.PrefixFrom(a, a.BitLen())
		}
		n = append(n, pre.Masked())
	}
	return n
}

// known refuses a value that the field never has, of those fields whose values
// are known: such a test would pass for one that works. The empty text stands
// for what a request does not tell.
func (p *parser) known(fd field, value lexeme) {
	v, want := fd.canonical(value.text), ""
	switch {
	case p.err != nil || v == "":
		return
	case fd.name == "country" && !codeForm.MatchString(v):
		want = "a two-letter country code"
	case fd.name == "device" && !slices.Contains(token.Devices(), v):
		want = "one of " + strings.Join(token.Devices(), ", ")
	default:
		return
	}
	p.tok = value
	p.fail("%s is not %s", value, want)
}

// canonical gives a value the case in which the field is compared.
func (fd field) canonical(v string) string {
	switch fd.name {
	case "host":
		return strings.ToLower(v)
	case "method", "country":
		return strings.ToUpper(v)
	}
	return v
}
