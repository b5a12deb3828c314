package edge

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checker checks values by a schema that it has resolved once.
type checker struct {
	Schema
	pattern    *regexp.Regexp
	items      *checker
	properties map[string]*checker
}

// compile resolves a schema's references; it panics on a pattern that is none.
func (all schemas) compile(s *Schema) *checker {
	if s.Ref != "" {
		s = all[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	c := &checker{Schema: *s, properties: map[string]*checker{}}
	if s.Pattern != "" {
		c.pattern = regexp.MustCompile(s.Pattern)
	}
	if s.Items != nil {
		c.items = all.compile(s.Items)
	}
	for name, p := range s.Properties {
		c.properties[name] = all.compile(p)
	}
	return c
}

// faults says what is wrong with a decoded JSON value, each fault with the path
// of its field; numbers are json.Number.
func (c *checker) faults(at string, v any) []string {
	one := func(format string, args ...any) []string {
		text := fmt.Sprintf(format, args...)
		if at == "" {
			return []string{"the body " + text}
		}
		return []string{at + ": " + text}
	}
	switch c.Type {
	case "object":
		o, ok := v.(map[string]any)
		if !ok {
			return one("is not a JSON object")
		}
		return c.object(at, o)
	case "array":
		a, ok := v.([]any)
		switch {
		case !ok:
			return one("is not a list")
		case c.MaxItems != nil && len(a) > *c.MaxItems:
			return one("has %d entries, at most %d are taken", len(a), *c.MaxItems)
		}
		var out []string
		for i, e := range a {
			out = append(out, c.items.faults(at+"["+strconv.Itoa(i)+"]", e)...)
		}
		return out
	case "boolean":
		if _, ok := v.(bool); !ok {
			return one("is not true or false")
		}
	case "string":
		s, ok := v.(string)
		if !ok {
			return one("is not text")
		}
		if why := c.text(s); why != "" {
			return one("%s", why)
		}
	case "integer", "number":
		n, ok := v.(json.Number)
		if !ok {
			return one("is not a number")
		}
		if why := c.number(string(n)); why != "" {
			return one("%s", why)
		}
	}
	return nil
}

func (c *checker) object(at string, o map[string]any) []string {
	var out []string
	for _, name := range c.Required {
		if _, ok := o[name]; !ok {
			out = append(out, dotted(at, name)+": it is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.properties)) {
		if v, ok := o[name]; ok {
			out = append(out, c.properties[name].faults(dotted(at, name), v)...)
		}
	}
	return out
}

func dotted(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// text says what is wrong with a string; "" is nothing.
func (c *checker) text(s string) string {
	n := utf8.RuneCountInString(s)
	switch {
	case !utf8.ValidString(s): // a microservice could not be asked for it
		return fmt.Sprintf("%.100q is not UTF-8", s)
	case len(c.Enum) > 0 && !slices.Contains(c.Enum, s):
		return fmt.Sprintf("%.100q is not one of %s", s, strings.Join(c.Enum, ", "))
	case c.MinLength != nil && n < *c.MinLength:
		return fmt.Sprintf("at least %d characters are needed", *c.MinLength)
	case c.MaxLength != nil && n > *c.MaxLength:
		return fmt.Sprintf("at most %d characters are taken", *c.MaxLength)
	case c.pattern != nil && !c.pattern.MatchString(s):
		return fmt.Sprintf("%.100q is not of the form %s", s, c.Pattern)
	}
	return ""
}

// number says what is wrong with a number; "" is nothing.
func (c *checker) number(text string) string {
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return text + " is not a number"
	case c.Type == "integer" && v != math.Trunc(v):
		return text + " is not a whole number"
	case c.Type == "integer" && (v >= 1<<63 || v < -(1<<63)):
		return text + " is too large"
	case c.Minimum != nil && v < *c.Minimum:
		return fmt.Sprintf("%s is less than %v", text, *c.Minimum)
	case c.Maximum != nil && v > *c.Maximum:
		return fmt.Sprintf("%s is more than %v", text, *c.Maximum)
	}
	return ""
}

// exact brings a value that passed to what encoding/json reads as the schema
// means it: a whole number may be written 2.0, and a key that is a field's but
// for its case is not that field. It changes v in place.
func (c *checker) exact(v any) (out any, changed bool) {
	switch v := v.(type) {
	case json.Number:
		if c.Type == "integer" && strings.ContainsAny(string(v), ".eE") {
			if f, err := strconv.ParseFloat(string(v), 64); err == nil {
				return json.Number(strconv.FormatFloat(f, 'f', 0, 64)), true
			}
		}
	case []any:
		for i := range v {
			if e, ch := c.items.exact(v[i]); ch {
				v[i], changed = e, true
			}
		}
	case map[string]any:
		for name, field := range v {
			p := c.properties[name]
			switch {
			case p != nil:
				if e, ch := p.exact(field); ch {
					v[name], changed = e, true
				}
			case c.fold(name):
				delete(v, name)
				changed = true
			}
		}
	}
	return v, changed
}

// fold says whether a name is a field's but for its case.
func (c *checker) fold(name string) bool {
	for field := range c.properties {
		if strings.EqualFold(field, name) {
			return true
		}
	}
	return false
}
