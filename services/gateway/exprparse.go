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
