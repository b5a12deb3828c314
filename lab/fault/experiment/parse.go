package experiment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/flix-lab/flix/lab/fault"
	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/resilience"
	"github.com/flix-lab/flix/services/token"
)

// Problem is one thing that is wrong with an experiment.
type Problem struct {
	File  string `json:"file"`
	Line  int    `json:"line"`
	Field string `json:"field"`
	// Text says what is wrong, Remedy what to write instead.
	Text   string `json:"problem"`
	Remedy string `json:"remedy"`
}

// String is "file:line: field: problem".
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d: %s: %s → %s", p.File, p.Line, p.Field, p.Text, p.Remedy)
}

// Problems are all that is wrong; they are an error.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for k, p := range ps {
		lines[k] = p.String()
	}
	return strings.Join(lines, "\n")
}

// maxFile bounds a file of an experiment, in bytes, and maxProblems what is
// told of it.
const (
	maxFile     = 256 << 10
	maxProblems = 20
)

// parser collects problems.
type parser struct {
	file  string
	lines map[string]int
	out   Problems
}

func (p *parser) add(line int, field, problem, remedy string) {
	known := slices.ContainsFunc(p.out, func(x Problem) bool { return x.Field == field })
	if !known && len(p.out) < maxProblems {
		p.out = append(p.out, Problem{p.file, line, field, problem, remedy})
	}
}

// at is the line of a field, or of the nearest one around it.
func (p *parser) at(field string) int {
	for f := field; ; {
		if l, ok := p.lines[f]; ok {
			return l
		}
		i := strings.LastIndexAny(f, ".[")
		if i < 0 {
			return 1
		}
		f = f[:i]
	}
}

// Read reads an experiment, and keeps where its fields stand. The error is Invalid
// and holds Problems.
func Read(r io.Reader, file string) (Source, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return Source{}, fmt.Errorf("%s: %w", file, err)
	}
	p := &parser{file: file, lines: map[string]int{}}
	e := p.read(b)
	return Source{e, file, p.lines}, p.err()
}

// read reads the one document of a file.
func (p *parser) read(b []byte) Experiment {
	e := defaults()
	if len(b) > maxFile {
		p.add(1, "file", fmt.Sprintf("it is longer than %d bytes", maxFile), "an experiment is a page")
		return e
	}
	var doc yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); err != nil {
		p.syntax(err)
		return e
	}
	var second yaml.Node
	switch err := d.Decode(&second); {
	case err == nil:
		p.add(second.Line, "file", "a second document begins here", "keep one experiment per file")
	case !errors.Is(err, io.EOF):
		p.syntax(err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		p.add(1, "file", "it is no mapping of fields", "begin with name: and title:")
		return e
	}
	p.walk(doc.Content[0], reflect.ValueOf(&e).Elem(), "")
	p.check(e)
	return e
}

func (p *parser) err() error {
	if len(p.out) == 0 {
		return nil
	}
	slices.SortStableFunc(p.out, func(a, b Problem) int { return a.Line - b.Line })
	return &services.Error{Kind: services.Invalid, Err: p.out}
}

func defaults() Experiment {
	return Experiment{
		Seed: 1, Traffic: Traffic{Viewers: 4, Seconds: 6, Speed: 10}, Groups: Groups{By: "time"},
		Phases: Phases{Baseline: Duration(5 * time.Second), Fault: Duration(10 * time.Second), Recovery: Duration(3 * time.Second)},
		Abort:  Abort{ErrorRatio: 0.5, RebufferRatio: 0.5, Plays: 10}, Margin: 0.1,
	}
}

// syntaxLine finds the line in what the YAML package says.
var syntaxLine = regexp.MustCompile(`line (\d+): (.*)`)

func (p *parser) syntax(err error) {
	line, text := 1, err.Error()
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		_, _ = fmt.Sscan(m[1], &line) // it is digits
		text = m[2]
	}
	if errors.Is(err, io.EOF) {
		text = "it is empty"
	}
	p.add(line, "file", text, "mend the YAML")
}

// walk reads a mapping into a struct, by the names of its tags.
func (p *parser) walk(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		p.add(n.Line, path, "it is no mapping of fields", "write its fields below it, indented")
		return
	}
	fields := tagged(v)
	for k := 0; k+1 < len(n.Content); k += 2 {
		name, value := n.Content[k], n.Content[k+1]
		field := strings.TrimPrefix(path+"."+name.Value, ".")
		if _, twice := p.lines[field]; twice {
			p.add(name.Line, field, "it is given twice", "leave one of them out")
			continue
		}
		p.lines[field] = name.Line
		f, ok := fields[name.Value]
		if !ok {
			var names []string
			for x := range fields {
				names = append(names, x)
			}
			slices.Sort(names)
			p.add(name.Line, field, "there is no such field", "use one of "+strings.Join(names, ", "))
			continue
		}
		p.value(value, f, field)
	}
}

// tagged are the fields of a struct by their names in YAML, inlined ones
// included.
func tagged(v reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for k := range v.NumField() {
		name, opt, _ := strings.Cut(v.Type().Field(k).Tag.Get("yaml"), ",")
		if opt == "inline" {
			for n, f := range tagged(v.Field(k)) {
				out[n] = f
			}
			continue
		}
		out[name] = v.Field(k)
	}
	return out
}

func (p *parser) value(n *yaml.Node, f reflect.Value, field string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case f.Kind() == reflect.Pointer && f.Type().Elem().Kind() == reflect.Struct:
		f.Set(reflect.New(f.Type().Elem()))
		p.walk(n, f.Elem(), field)
	case f.Kind() == reflect.Struct:
		p.walk(n, f, field)
	case f.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			p.add(n.Line, field, "it is no list", "begin each entry with a dash")
			return
		}
		for k, x := range n.Content {
			e := reflect.New(f.Type().Elem()).Elem()
			name := fmt.Sprintf("%s[%d]", field, k)
			p.lines[name] = x.Line
			p.walk(x, e, name)
			f.Set(reflect.Append(f, e))
		}
	default:
		if err := n.Decode(f.Addr().Interface()); err != nil {
			what := strconv.Quote(n.Value)
			switch n.Kind {
			case yaml.MappingNode:
				what = "a mapping of fields"
			case yaml.SequenceNode:
				what = "a list"
			}
			p.add(n.Line, field, what+" is not what belongs here", "write "+example(f))
		}
	}
}

// example is what a value of a field's type looks like.
func example(f reflect.Value) string {
	switch f.Interface().(type) {
	case Duration:
		return "a time like 10s"
	case map[string]string:
		return "names with values, like {delay: 200ms}"
	}
	switch f.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Float64, reflect.Pointer:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "a rate like 2Mbit"
	}
	return "a text"
}

// check looks at values that are of the right type.
func (p *parser) check(e Experiment) {
	bad := func(field, problem, remedy string) { p.add(p.at(field), field, problem, remedy) }
	if !nameRule.MatchString(e.Name) {
		bad("name", fmt.Sprintf("%q is no name", e.Name), "use lower case letters, digits and dashes, like license-slow")
	}
	if e.Title == "" {
		bad("title", "it is missing", "say in a line what is shown")
	}
	if e.Claim == "" {
		bad("claim", "it is missing", "say which statement about the system it stands for")
	}
	t := e.Traffic
	between := func(field string, v, least, most float64) {
		if v < least || v > most || v != v {
			bad(field, fmt.Sprintf("%g is not between %g and %g", v, least, most), "use a number in between")
		}
	}
	between("traffic.viewers", float64(t.Viewers), 1, 200)
	between("traffic.seconds", t.Seconds, 1, 3600)
	between("traffic.speed", t.Speed, 0.1, 1000)
	between("margin", e.Margin, 0.001, 1)
	between("abort.error_ratio", e.Abort.ErrorRatio, 0, 1)
	between("abort.rebuffer_ratio", e.Abort.RebufferRatio, 0, 1)
	between("abort.plays", float64(e.Abort.Plays), 1, 10000)
	if t.Device != "" && !slices.Contains(token.Devices(), t.Device) {
		bad("traffic.device", fmt.Sprintf("%q is no device", t.Device), "use one of "+services.List(token.Devices()))
	}
	if t.Bandwidth < 0 {
		bad("traffic.bandwidth", t.Bandwidth.String()+" is below 0", "write it like 2Mbit, or leave it out for no cap")
	}
	for _, x := range []struct {
		field string
		d     Duration
		least time.Duration
	}{
		{"traffic.pause", t.Pause, 0}, {"phases.baseline", e.Phases.Baseline, time.Second}, {"phases.fault", e.Phases.Fault, time.Second},
		{"phases.recovery", e.Phases.Recovery, 0}, {"phases.settle", e.Phases.Settle, 0},
	} {
		if x.d.D() < x.least || x.d.D() > time.Hour {
			bad(x.field, fmt.Sprintf("%s is not between %s and 1h", x.d, x.least), "write it like 10s")
		}
	}
	if e.Phases.Settle >= e.Phases.Fault {
		bad("phases.settle", fmt.Sprintf("%s is not shorter than the fault phase, %s", e.Phases.Settle, e.Phases.Fault), "write a time below that, like 3s")
	}
	p.checkMethod(e)
	p.checkBounds(e)
}

var nameRule = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (p *parser) checkMethod(e Experiment) {
	bad := func(field, problem, remedy string) { p.add(p.at(field), field, problem, remedy) }
	if !slices.Contains([]string{"client", "region", "time"}, e.Groups.By) {
		bad("groups.by", fmt.Sprintf("%q is no way to tell groups apart", e.Groups.By), "use client, region or time")
	}
	if len(e.Method) == 0 {
		bad("method", "there is no fault in it", "add one: - {kind: kill, target: us-east/a/play/1}")
	}
	for k, s := range e.Method {
		at := fmt.Sprintf("method[%d]", k)
		kind, err := fault.KindOf(s.Kind)
		if err != nil {
			bad(at+".kind", err.Error(), remedyOf(err))
			continue
		}
		if s.Target == "" {
			bad(at+".target", "it is missing", "name a "+strings.Join(kind.Targets, ", "))
		}
		for name := range s.Params {
			if !slices.ContainsFunc(kind.Params, func(x fault.Param) bool { return x.Name == name }) {
				bad(at+".params", fmt.Sprintf("%s has no parameter %q", kind.Name, name), paramsOf(kind))
			}
		}
		if s.At < 0 || s.At >= e.Phases.Fault {
			bad(at+".at", s.At.String()+" is not within the fault phase", "write a time below "+e.Phases.Fault.String())
		}
		if s.To != "" && !kind.To {
			bad(at+".to", fmt.Sprintf("%q: %s has one target, no other end", s.To, kind.Name), "leave it out")
		}
		switch {
		case s.TTL != 0 && !kind.Reverts:
			bad(at+".ttl", fmt.Sprintf("%s: %s is over at once, there is nothing to revert", s.TTL, kind.Name), "leave it out")
		case s.TTL < 0 || s.TTL.D() > fault.MaxTTL:
			bad(at+".ttl", fmt.Sprintf("%s is not between 0 and %s", s.TTL, Duration(fault.MaxTTL)), "write it like 10s, or leave it out: it lasts to the end of the phase")
		}
		if e.Groups.By == "client" && kind.Group != "call" {
			bad(at+".kind", kind.Name+" cannot be scoped to clients", "use fail-call or slow-call, or groups.by region or time")
		}
	}
}

// paramsOf lists the parameters of a kind.
func paramsOf(k fault.Kind) string {
	if len(k.Params) == 0 {
		return "leave it out: it has none"
	}
	names := make([]string, len(k.Params))
	for i, x := range k.Params {
		names[i] = x.Name
	}
	return "it has " + services.List(names)
}

func remedyOf(err error) string {
	var e *services.Error
	if errors.As(err, &e) {
		return e.Remedy
	}
	return "see flix chaos ls"
}

// checkBound looks at the numbers of a bound: nothing is above one that is none.
func (p *parser) checkBound(field string, least, most *float64, limit float64) {
	for name, v := range map[string]*float64{"min": least, "max": most} {
		if v == nil || *v >= 0 && *v <= limit {
			continue
		}
		problem, remedy := fmt.Sprintf("%g is not between 0 and %g", *v, limit), "use a number in between"
		if limit == math.MaxFloat64 {
			problem, remedy = fmt.Sprintf("%g is no number from 0 on", *v), "use one, like 4000"
		}
		p.add(p.at(field+"."+name), field+"."+name, problem, remedy)
	}
}

// seen are the things that an expectation may be about.
var seen = []string{"appliance_switches", "rebuffers", "served_by_exchange", "answered_elsewhere", "sessions_seen", "command"}

func (p *parser) checkBounds(e Experiment) {
	bad := func(field, problem, remedy string) { p.add(p.at(field), field, problem, remedy) }
	none := true
	for name, b := range map[string]*Bound{
		"starts_per_second": e.SteadyState.StartsPerSecond, "error_ratio": e.SteadyState.ErrorRatio,
		"rebuffer_ratio": e.SteadyState.RebufferRatio, "p99_ms": e.SteadyState.P99MS,
	} {
		if b == nil {
			continue
		}
		none = false
		switch {
		case b.Min == nil && b.Max == nil:
			bad("steady_state."+name, "it bounds nothing", "write {min: …}, {max: …} or both")
		case b.Min != nil && b.Max != nil && *b.Min > *b.Max:
			bad("steady_state."+name, fmt.Sprintf("min: %g is above max: %g, which nothing can be", *b.Min, *b.Max), "write the lesser one as min")
		}
		most := math.MaxFloat64
		if strings.HasSuffix(name, "_ratio") {
			most = 1
		}
		p.checkBound("steady_state."+name, b.Min, b.Max, most)
	}
	if none {
		bad("steady_state", "it bounds nothing", "bound error_ratio, rebuffer_ratio, p99_ms or starts_per_second")
	}
	for k, x := range e.Expect {
		at := fmt.Sprintf("expect[%d]", k)
		if !slices.Contains(seen, x.See) {
			bad(at+".see", fmt.Sprintf("%q is nothing that can be seen", x.See), "use one of "+strings.Join(seen, ", "))
		}
		switch {
		case x.See != "command" && (x.Command != "" || x.Event != ""):
			bad(at, fmt.Sprintf("command and event are of see: command, not of %q", x.See), "leave them out, or write see: command")
		case x.See == "command" && (x.Command == "" || x.Event == ""):
			bad(at, "it names no command or no event", "write command: and event:, as flix command ls -o json shows them")
		case x.See == "command" && !slices.Contains(resilience.Events(), x.Event):
			bad(at+".event", fmt.Sprintf("%q is no event of a command", x.Event), "use one of "+services.List(resilience.Events()))
		}
		if x.Min == nil && x.Max == nil {
			bad(at, "it bounds nothing", "write min: or max:")
		}
		p.checkBound(at, x.Min, x.Max, math.MaxFloat64)
	}
}
