package edge

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Schema is the part of JSON Schema (draft 2020-12) that an API describes its
// bodies and parameters with, and checks requests by. Lengths count characters.
type Schema struct {
	Ref              string             `json:"$ref,omitempty"`
	Type             string             `json:"type,omitempty"`
	Description      string             `json:"description,omitempty"`
	Format           string             `json:"format,omitempty"`
	ContentEncoding  string             `json:"contentEncoding,omitempty"`
	Pattern          string             `json:"pattern,omitempty"`
	Enum             []string           `json:"enum,omitempty"`
	MinLength        *int               `json:"minLength,omitempty"`
	MaxLength        *int               `json:"maxLength,omitempty"`
	Minimum          *float64           `json:"minimum,omitempty"`
	Maximum          *float64           `json:"maximum,omitempty"`
	MaxItems         *int               `json:"maxItems,omitempty"`
	Items            *Schema            `json:"items,omitempty"`
	Properties       map[string]*Schema `json:"properties,omitempty"`
	Required         []string           `json:"required,omitempty"`
	AdditionalValues *Schema            `json:"additionalProperties,omitempty"`
}

// schemas collects the named types of one description.
type schemas map[string]*Schema

// of describes a type by reference where it has a name. Its fields carry what
// Go's types cannot say in tags: rule:"required;min=1;max=128;items=64;enum=a|b"
// (min and max are lengths of strings, and bounds of numbers), pattern:"^x$" and
// doc:"what it is". It panics on a type that JSON has no form for: descriptions
// are made when a role is, from its own types.
func (all schemas) of(t reflect.Type) *Schema {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return &Schema{Type: "string", Format: "date-time"}
	case t == reflect.TypeFor[time.Duration]():
		return &Schema{Type: "integer", Description: "nanoseconds"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return all.of(t.Elem())
	case reflect.Bool:
		return &Schema{Type: "boolean"}
	case reflect.String:
		return &Schema{Type: "string"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return &Schema{Type: "integer"}
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return &Schema{Type: "integer", Minimum: new(float64)}
	case reflect.Float64:
		return &Schema{Type: "number"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return &Schema{Type: "string", ContentEncoding: "base64"}
		}
		return &Schema{Type: "array", Items: all.of(t.Elem())}
	case reflect.Map:
		return &Schema{Type: "object", AdditionalValues: all.of(t.Elem())}
	case reflect.Struct:
		if _, done := all[t.Name()]; !done {
			all[t.Name()] = &Schema{} // it may name itself
			*all[t.Name()] = *all.object(t)
		}
		return &Schema{Ref: "#/components/schemas/" + t.Name()}
	}
	panic("edge: JSON has no form for " + t.String())
}

func (all schemas) object(t reflect.Type) *Schema {
	s := &Schema{Type: "object", Properties: map[string]*Schema{}}
	for f := range fields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || name == "" {
			continue
		}
		p := all.of(f.Type)
		p.Pattern, p.Description = f.Tag.Get("pattern"), strings.TrimSpace(f.Tag.Get("doc")+" "+p.Description)
		rule := f.Tag.Get("rule")
		p.rules(rule)
		s.Properties[name] = p
		// What an answer always has, and what a request must have.
		if strings.Contains(";"+rule+";", ";required;") || rule == "" && !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// rules reads a rule tag into the schema.
func (s *Schema) rules(tag string) {
	for _, r := range strings.Split(tag, ";") {
		key, value, _ := strings.Cut(r, "=")
		switch key {
		case "", "required", "optional":
			continue
		case "enum":
			s.Enum = strings.Split(value, "|")
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			panic("edge: rule " + r + " wants a number")
		}
		length := int(n)
		switch {
		case key == "items":
			s.MaxItems = &length
		case key == "each" && s.Items != nil:
			s.Items.MaxLength = &length
		case key == "min" && s.Type == "string":
			s.MinLength = &length
		case key == "max" && s.Type == "string":
			s.MaxLength = &length
		case key == "min":
			s.Minimum = &n
		case key == "max":
			s.Maximum = &n
		default:
			panic("edge: rule " + r + " is not known")
		}
	}
}

// fields yields the fields of a struct, those of embedded ones in their place.
func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && !f.Anonymous && !yield(f) {
				return
			}
		}
	}
}
