package eureka

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Metadata are free-form settings of an instance.
type Metadata map[string]string

// classKey marks the Java class of a map in the original's JSON: not a value.
const classKey = "@class"

// UnmarshalJSON takes strings, numbers and booleans as values.
func (m *Metadata) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	if raw == nil {
		*m = nil
		return nil
	}
	out := make(Metadata, len(raw))
	for k, v := range raw {
		v = bytes.TrimSpace(v)
		switch {
		case k == classKey || string(v) == "null":
		case v[0] == '"':
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return err
			}
			out[k] = s
		case v[0] == '{', v[0] == '[':
			return &json.UnmarshalTypeError{Field: k, Value: map[byte]string{'{': "object", '[': "array"}[v[0]], Type: reflect.TypeFor[string]()}
		default:
			out[k] = string(v) // a number or a boolean, as it was written
		}
	}
	*m = out
	return nil
}

// MarshalJSON writes an empty map the way the original does.
func (m Metadata) MarshalJSON() ([]byte, error) { return m.appendJSON(nil), nil }

// UnmarshalXML reads each element as a key.
func (m *Metadata) UnmarshalXML(d *xml.Decoder, _ xml.StartElement) error {
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

// escapeName makes any key an XML name as the original's writer does (the
// friendly name coder of XStream 1.4): "_" is doubled, "$" is "_-", and what a
// name may not hold becomes "_." and four hexadecimal digits per UTF-16 unit.
// The doubled underscore is why the wire says "apps__hashcode". A colon is
// escaped too, lest it makes a namespace; an empty key is "_.", which the
// original has no form for.
func escapeName(k string) string {
	if k == "" {
		return "_."
	}
	var b strings.Builder
	for i, r := range k {
		switch {
		case r == '_':
			b.WriteString("__")
		case r == '$':
			b.WriteString("_-")
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z',
			i > 0 && (r >= '0' && r <= '9' || r == '-' || r == '.'):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, "_.%04x_.%04x", hi, lo)
		default:
			fmt.Fprintf(&b, "_.%04x", r)
		}
	}
	return b.String()
}

// hexDigits of one UTF-16 unit in an escaped name.
const hexDigits = 4

func unescapeName(s string) string {
	var units []uint16
	for s != "" {
		switch {
		case strings.HasPrefix(s, "__"):
			units, s = append(units, '_'), s[2:]
		case strings.HasPrefix(s, "_-"):
			units, s = append(units, '$'), s[2:]
		case s == "_." && len(units) == 0:
			return ""
		case strings.HasPrefix(s, "_.") && len(s) >= 2+hexDigits:
			v, err := strconv.ParseUint(s[2:2+hexDigits], 16, 16)
			if err != nil {
				units, s = append(units, '_'), s[1:]
				continue
			}
			units, s = append(units, uint16(v)), s[2+hexDigits:]
		default:
			r, n := utf8.DecodeRuneInString(s)
			units, s = utf16.AppendRune(units, r), s[n:]
		}
	}
	return string(utf16.Decode(units))
}
