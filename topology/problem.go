package topology

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseError is one thing wrong with a declaration.
type ParseError struct {
	// File and Line where it stands; no file and line 0 for a value that was
	// not parsed.
	File string
	Line int
	// Field is the path of the field, e.g. "regions[0].isps[1].asn".
	Field string
	// Value as written; "" when it is missing or not a scalar.
	Value string
	// Problem says what is wrong, Remedy what to write instead.
	Problem, Remedy string
}

// Error renders "file:line: field: value: problem: remedy".
func (e *ParseError) Error() string {
	var parts []string
	if e.File != "" {
		place := e.File
		if e.Line > 0 {
			place += ":" + strconv.Itoa(e.Line)
		}
		parts = append(parts, place)
	}
	if e.Field != "" {
		parts = append(parts, e.Field)
	}
	text := e.Problem
	if e.Value != "" {
		text = fmt.Sprintf("%q %s", e.Value, e.Problem)
	}
	parts = append(parts, text)
	if e.Remedy != "" {
		parts = append(parts, e.Remedy)
	}
	return strings.Join(parts, ": ")
}

// ParseErrors are all the things wrong with a declaration, in the order they
// stand. errors.As finds each *ParseError in it.
type ParseErrors []*ParseError

// Error is one line per problem.
func (es ParseErrors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes the problems visible to errors.Is and errors.As.
func (es ParseErrors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

func (es ParseErrors) err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}

// about says whether a problem is known of the field, of something inside it
// or of something that contains it.
func (es ParseErrors) about(field string) bool {
	for _, e := range es {
		if within(e.Field, field) || within(field, e.Field) {
			return true
		}
	}
	return false
}

// within says whether the field is outer or inside it.
func within(field, outer string) bool {
	rest, ok := strings.CutPrefix(field, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// nearest is the known name with the fewest edits to s, or "" when none is
// near.
func nearest(s string, known []string) string {
	best, edits := "", 1+len(s)/3
	for _, k := range known {
		if d := distance(s, k); d <= edits && (best == "" || d < edits) {
			best, edits = k, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours between two short strings.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	var before, prev []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, row = prev, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
