package gateway

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

type lexemeKind int

const (
	tokenEnd    lexemeKind = iota
	tokenWord              // a bare word
	tokenText              // a quoted one
	tokenOp                // a comparison
	tokenSymbol            // parentheses, comma, && || !
)

// lexeme is a word of a condition and where it begins.
type lexeme struct {
	kind lexemeKind
	text string
	at   int
}

// is says whether the word is one of these, unquoted.
func (l lexeme) is(words ...string) bool {
	return l.kind != tokenText && l.kind != tokenEnd && slices.Contains(words, l.text)
}

// String names the word in an error.
func (l lexeme) String() string {
	if l.kind == tokenEnd {
		return "the end"
	}
	return strconv.Quote(l.text)
}

var (
	ops     = []string{"==", "!=", "^=", "$=", "*=", "=~"}
	symbols = []string{"&&", "||", "(", ")", ",", "!"}
)

func isWord(c byte) bool {
	return c >= utf8.RuneSelf || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_./:*%@+", c) >= 0
}

// next reads the next word.
func (p *parser) next() {
	if p.err != nil {
		return
	}
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	p.tok = lexeme{kind: tokenEnd, at: p.pos}
	if p.pos == len(p.text) {
		return
	}
	rest := p.text[p.pos:]
	for _, op := range ops {
		if strings.HasPrefix(rest, op) {
			p.take(tokenOp, op)
			return
		}
	}
	for _, s := range symbols {
		if strings.HasPrefix(rest, s) {
			p.take(tokenSymbol, s)
			return
		}
	}
	switch c := rest[0]; {
	case c == '"' || c == '\'':
		end := strings.IndexByte(rest[1:], c)
		if end < 0 {
			p.fail("the text that begins here has no end")
			return
		}
		p.tok = lexeme{tokenText, rest[1 : 1+end], p.pos}
		p.pos += end + 2
	case isWord(c):
		n := 1
		for n < len(rest) && isWord(rest[n]) && !slices.ContainsFunc(ops, func(op string) bool { return strings.HasPrefix(rest[n:], op) }) {
			n++
		}
		p.take(tokenWord, rest[:n])
	default:
		r, _ := utf8.DecodeRuneInString(rest)
		p.fail("%q means nothing here", r)
	}
}

func (p *parser) take(kind lexemeKind, text string) {
	p.tok = lexeme{kind, text, p.pos}
	p.pos += len(text)
}
