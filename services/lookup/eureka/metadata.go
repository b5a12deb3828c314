package eureka

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Metadata are free-form settings of an instance.
type Metadata map[string]string

// classKey marks the Java class of a map in the original's JSON: not a value.
const classKey = "@class"

// UnmarshalJSON takes strings, numbers and booleans as values.
func (m *Metadata) UnmarshalJSON(b []byte) error {
	var raw map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	if raw == nil {
		*m = nil
		return nil
	}
	out := make(Metadata, len(raw))
	for k, v := range raw {
		switch t := v.(type) {
		case string:
			out[k] = t
		case float64:
			out[k] = strconv.FormatFloat(t, 'f', -1, 64)
		case bool:
			out[k] = strconv.FormatBool(t)
		case nil:
		default:
			return fmt.Errorf("metadata %q: a value is a string", k)
		}
	}
	delete(out, classKey)
	*m = out
	return nil
}

// MarshalJSON writes an empty map the way the original does.
func (m Metadata) MarshalJSON() ([]byte, error) {
	if len(m) == 0 {
		return []byte(`{"@class":"java.util.Collections$EmptyMap"}`), nil
	}
	return json.Marshal(map[string]string(m))
}

// MarshalXML writes each key as an element.
func (m Metadata) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if len(m) == 0 {
		start.Attr = append(start.Attr, xml.Attr{Name: xml.Name{Local: "class"}, Value: "java.util.Collections$EmptyMap"})
	}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if err := e.EncodeElement(m[k], xml.StartElement{Name: xml.Name{Local: escapeName(k)}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// UnmarshalXML reads each element as a key.
func (m *Metadata) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	out := Metadata{}
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			var v string
			if err := d.DecodeElement(&v, &t); err != nil {
				return err
			}
			out[unescapeName(t.Name.Local)] = v
		case xml.EndElement:
			*m = out
			return nil
		}
	}
}

// escapeName makes any key an XML name: "_" is doubled, and what a name may
// not hold becomes "_." and four or more hexadecimal digits, ended by "_".
// The doubled underscore is the original's (its XStream coder), which is also
// why the wire says "apps__hashcode".
func escapeName(k string) string {
	var b strings.Builder
	for i, r := range k {
		switch {
		case r == '_':
			b.WriteString("__")
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z',
			i > 0 && (r >= '0' && r <= '9' || r == '-' || r == '.'):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "_.%04x_", r)
		}
	}
	if b.Len() == 0 {
		return "_._"
	}
	return b.String()
}

func unescapeName(s string) string {
	var b strings.Builder
	for s != "" {
		switch {
		case strings.HasPrefix(s, "__"):
			b.WriteByte('_')
			s = s[2:]
		case strings.HasPrefix(s, "_."):
			hex, rest, ok := strings.Cut(s[2:], "_")
			v, err := strconv.ParseUint(hex, 16, 32)
			switch {
			case ok && hex == "":
				s = rest
			case ok && err == nil && utf8.ValidRune(rune(v)):
				b.WriteRune(rune(v))
				s = rest
			default:
				b.WriteByte('_')
				s = s[1:]
			}
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String()
}
