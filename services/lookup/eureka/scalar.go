package eureka

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"math"
	"strconv"
)

// Num is an integer that is read from a JSON number or string and written as
// a number.
type Num int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *Num) UnmarshalJSON(b []byte) error {
	v, err := number(b)
	*n = Num(v)
	return err
}

// Millis is a time in milliseconds since 1970, read from a JSON number or
// string and written as a string, as the original does.
type Millis int64

// UnmarshalJSON implements json.Unmarshaler.
func (m *Millis) UnmarshalJSON(b []byte) error {
	v, err := number(b)
	*m = Millis(v)
	return err
}

// UnmarshalXML implements xml.Unmarshaler.
func (n *Num) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	v, err := numberIn(d, start)
	*n = Num(v)
	return err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Num) UnmarshalText(b []byte) error {
	v, err := number(bytes.TrimSpace(b))
	*n = Num(v)
	return err
}

// UnmarshalXML implements xml.Unmarshaler.
func (m *Millis) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	v, err := numberIn(d, start)
	*m = Millis(v)
	return err
}

// numberIn reads an element of XML.
func numberIn(d *xml.Decoder, start xml.StartElement) (int64, error) {
	var text string
	if err := d.DecodeElement(&text, &start); err != nil {
		return 0, err
	}
	v, err := number(bytes.TrimSpace([]byte(text)))
	return v, inElement(start, err)
}

// MarshalJSON implements json.Marshaler.
func (m Millis) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 24), '"')
	return append(strconv.AppendInt(b, int64(m), 10), '"'), nil
}

func number(b []byte) (int64, error) {
	b = bytes.Trim(b, `"`)
	if len(b) == 0 || string(b) == "null" {
		return 0, nil
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	if err == nil {
		return v, nil
	}
	// Scripting languages write 30.0 and 1.7e12 for what is an integer.
	f, ferr := strconv.ParseFloat(string(b), 64)
	if ferr != nil || f != math.Trunc(f) || math.Abs(f) > maxExact {
		return 0, oddValue[int64](b)
	}
	return int64(f), nil
}

// maxExact is the largest integer that a float64 holds with all below it.
const maxExact = 1 << 53

// Bool is read from a JSON boolean or string and written as a string.
type Bool bool

// UnmarshalJSON implements json.Unmarshaler.
func (v *Bool) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	return v.UnmarshalText(bytes.Trim(b, `"`))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Bool) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*v = false
		return nil
	}
	t, err := strconv.ParseBool(string(b))
	if err != nil {
		return oddValue[bool](b)
	}
	*v = Bool(t)
	return nil
}

// Instances reads a JSON list, or one object as old clients write it.
type Instances []Instance

// UnmarshalJSON implements json.Unmarshaler.
func (l *Instances) UnmarshalJSON(b []byte) error {
	return oneOrMany((*[]Instance)(l), b)
}

// Apps reads a JSON list, or one object as old clients write it.
type Apps []Application

// UnmarshalJSON implements json.Unmarshaler.
func (l *Apps) UnmarshalJSON(b []byte) error { return oneOrMany((*[]Application)(l), b) }

func oneOrMany[T any](to *[]T, b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		*to = make([]T, 1)
		return json.Unmarshal(b, &(*to)[0])
	}
	return json.Unmarshal(b, to)
}
