package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds of a file, so that a hostile one costs little: aliases may expand to
// no more than maxNodes nodes.
const (
	maxFile   = 1 << 20
	maxNodes  = 100_000
	maxMerges = 8 // merge keys inside merge keys
	// maxProblems are reported at most.
	maxProblems = 50
)

// Parse reads a topology in YAML and validates it. What may be left out takes
// the values of the presets: zones, services, exchange, ISPs with their
// numbers and prefixes, appliances, timing, and the country of a region that
// the presets know. The error is a ParseErrors with every problem, each with
// file, line, field, value and remedy; filename only appears in it.
func Parse(r io.Reader, filename string) (Topology, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return Topology{}, fmt.Errorf("%s: %w", filename, err)
	}
	p := &parser{file: filename, lines: map[string]int{}}
	if len(b) > maxFile {
		p.add(0, "", "", fmt.Sprintf("the file is larger than %d bytes", maxFile), "a topology of 16 regions needs a tenth of that")
		return Topology{}, p.errs.err()
	}
	root := p.document(b)
	if root == nil {
		return Topology{}, p.errs.err()
	}
	t := p.topology(root)
	p.validate(t)
	p.cap()
	if err := p.errs.err(); err != nil {
		return Topology{}, err
	}
	return t, nil
}

// YAML renders the topology in full, nothing left to defaults: Parse of it
// gives an equal value.
func (t Topology) YAML() ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(t), e.Close()); err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	return b.Bytes(), nil
}

type parser struct {
	file string
	errs ParseErrors
	// lines says where a field was read, by its path.
	lines map[string]int
	nodes int
}

func (p *parser) add(line int, field, value, problem, remedy string) {
	p.errs = append(p.errs, &ParseError{File: p.file, Line: line, Field: field, Value: value, Problem: problem, Remedy: remedy})
}

// fail reports a problem with a node; the value of a scalar is quoted.
func (p *parser) fail(n *yaml.Node, field, problem, remedy string, args ...any) {
	value := ""
	if n.Kind == yaml.ScalarNode {
		value = n.Value
	}
	p.add(n.Line, field, value, problem, fmt.Sprintf(remedy, args...))
}

// validate adds what Validate finds, with the lines of the fields, unless the
// same field could not be read at all.
func (p *parser) validate(t Topology) {
	var found ParseErrors
	if !errors.As(t.Validate(), &found) {
		return
	}
	unread := slices.Clone(p.errs)
	for _, e := range found {
		if unread.about(e.Field) {
			continue
		}
		e.File, e.Line = p.file, p.line(e.Field)
		p.errs = append(p.errs, e)
	}
	slices.SortStableFunc(p.errs, func(a, b *ParseError) int { return a.Line - b.Line })
}

// cap keeps the first problems: nobody reads hundreds at once.
func (p *parser) cap() {
	if more := len(p.errs) - maxProblems; more > 0 {
		p.errs = p.errs[:maxProblems:maxProblems]
		p.add(0, "", "", fmt.Sprintf("%d more problems are not shown", more), "mend these first")
	}
}

// line finds where a field stands, or what contains it.
func (p *parser) line(field string) int {
	for {
		if l, ok := p.lines[field]; ok || field == "" {
			return l
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// document reads the only document of the file.
func (p *parser) document(b []byte) *yaml.Node {
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	err := d.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || doc.Content[0].Tag == "!!null"):
		p.add(0, "", "", "the file declares nothing", "begin with regions: [us-east]")
		return nil
	case err != nil:
		p.syntax(err)
		return nil
	}
	if err := d.Decode(&second); err == nil {
		p.add(second.Line, "", "", "a second document begins here", "keep one document per file")
	} else if !errors.Is(err, io.EOF) {
		p.syntax(err)
	}
	p.lines[""] = doc.Content[0].Line
	return doc.Content[0]
}

func (p *parser) syntax(err error) {
	line, text := 0, err.Error()
	if m := syntaxError.FindStringSubmatch(text); m != nil {
		text = m[2]
		line, _ = strconv.Atoi(m[1]) // none: 0
	}
	p.add(line, "", "", "is not YAML: "+text, "look at the indentation, quotes and brackets in this line and its neighbours")
}

// resolve follows an alias. It counts every node looked at and gives nil when
// there are too many.
func (p *parser) resolve(n *yaml.Node) *yaml.Node {
	p.nodes++
	if p.nodes > maxNodes {
		if p.nodes == maxNodes+1 {
			p.fail(n, "", "aliases expand to too many nodes", "write the values out, or fewer of them")
		}
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return p.resolve(n.Alias)
	}
	return n
}

// fields reads a mapping with the reader of each known field. It reports
// unknown and repeated ones and says which were there.
func (p *parser) fields(n *yaml.Node, field string, known map[string]func(n *yaml.Node, field string)) map[string]bool {
	seen := map[string]bool{}
	if n = p.resolve(n); n == nil {
		return seen
	}
	p.mark(field, n)
	if n.Kind != yaml.MappingNode {
		p.fail(n, field, "is "+kindName(n)+" where a mapping is expected", "write its fields as \"name: value\", one per line")
		return seen
	}
	p.pairs(n, field, known, seen, 0)
	return seen
}

func (p *parser) pairs(n *yaml.Node, field string, known map[string]func(n *yaml.Node, field string), seen map[string]bool, depth int) {
	here := map[string]bool{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := join(field, key.Value)
		read, ok := known[key.Value]
		switch {
		case key.Tag == "!!merge":
			merges = append(merges, value)
		case here[key.Value]:
			p.fail(key, path, "is written twice", "keep one of the two")
		case !ok:
			p.fail(key, path, "is not a field here", "%s", didYouMean(key.Value, sortedKeys(known)))
		case seen[key.Value]: // overrides what is merged
		default:
			seen[key.Value] = true
			if r := p.resolve(value); r != nil {
				p.lines[path] = value.Line
				read(r, path)
			}
		}
		here[key.Value] = true
	}
	for _, m := range merges {
		p.merge(m, field, known, seen, depth+1)
	}
}

// merge reads the fields of "<<: *anchor" or "<<: [*a, *b]" that are not set.
func (p *parser) merge(n *yaml.Node, field string, known map[string]func(n *yaml.Node, field string), seen map[string]bool, depth int) {
	r := p.resolve(n)
	switch {
	case r == nil:
	case depth > maxMerges:
		p.fail(n, field, "merges too deeply", "merge at most %d mappings inside one another", maxMerges)
	case r.Kind == yaml.MappingNode:
		p.pairs(r, field, known, seen, depth)
	case r.Kind == yaml.SequenceNode:
		for _, c := range r.Content {
			p.merge(c, field, known, seen, depth+1)
		}
	default:
		p.fail(r, join(field, "<<"), "is not a mapping", "merge an alias of a mapping, e.g. <<: *defaults")
	}
}

// list reads a sequence, item by item.
func (p *parser) list(n *yaml.Node, field, what string, most int, read func(n *yaml.Node, field string, i int)) {
	if n = p.resolve(n); n == nil {
		return
	}
	p.mark(field, n)
	switch {
	case n.Kind != yaml.SequenceNode:
		p.fail(n, field, "is "+kindName(n)+" where a list is expected", "write %s", what)
		return
	case len(n.Content) > most:
		p.add(n.Line, field, strconv.Itoa(len(n.Content)), "is too many", fmt.Sprintf("write at most %d", most))
		return
	}
	for i, c := range n.Content {
		f := fmt.Sprintf("%s[%d]", field, i)
		if r := p.resolve(c); r != nil {
			p.lines[f] = c.Line
			read(r, f, i)
		}
	}
}

// mark remembers where a field was first seen: an alias's own place comes
// before that of its anchor.
func (p *parser) mark(field string, n *yaml.Node) {
	if _, ok := p.lines[field]; !ok {
		p.lines[field] = n.Line
	}
}

func (p *parser) str(n *yaml.Node, field, example string) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		p.fail(n, field, "is "+kindName(n)+" where text is expected", "write e.g. %s", example)
		return ""
	}
	return n.Value
}

// text reads a scalar that knows its own form, such as a Duration.
func (p *parser) text(n *yaml.Node, field, example string, into func(b []byte) error) {
	s := p.str(n, field, example)
	if s == "" {
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			p.fail(n, field, "is empty", "write e.g. %s", example)
		}
		return
	}
	if err := into([]byte(s)); err != nil {
		// The value is named beside the problem: do not repeat it.
		problem := strings.TrimPrefix(err.Error(), strconv.Quote(s)+" ")
		problem, remedy, ok := strings.Cut(problem, ": ")
		if !ok {
			remedy = "write e.g. " + example
		}
		p.add(n.Line, field, s, problem, remedy)
	}
}

// number reads an integer between two bounds.
func (p *parser) number(n *yaml.Node, field string, least, most int64) (int64, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
		p.fail(n, field, "is "+kindName(n)+" where a whole number is expected", "write %d to %d", least, most)
		return 0, false
	}
	v, err := strconv.ParseInt(n.Value, 0, 64)
	if err != nil || v < least || v > most {
		p.fail(n, field, fmt.Sprintf("is outside %d to %d", least, most), "write a whole number in that range")
		return 0, false
	}
	return v, true
}

// isCount says whether a node is the short form of a list: how many.
func isCount(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!int" }

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!str":
		return "text"
	}
	return "a value of type " + n.Tag
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

type timingField struct {
	name  string
	value *Duration
}

// timingFields lists the intervals by their names in YAML.
func timingFields(t *Timing) []timingField {
	v := reflect.ValueOf(t).Elem()
	out := make([]timingField, v.NumField())
	for i := range out {
		out[i] = timingField{v.Type().Field(i).Tag.Get("yaml"), v.Field(i).Addr().Interface().(*Duration)}
	}
	return out
}
