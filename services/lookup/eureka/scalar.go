package eureka

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	if err != nil {
		return 0, fmt.Errorf("%q is not an integer", b)
	}
	return v, nil
}

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
		return fmt.Errorf("%q is neither true nor false", b)
	}
	*v = Bool(t)
	return nil
}

// MarshalText implements encoding.TextMarshaler, and so the JSON string.
func (v Bool) MarshalText() ([]byte, error) { return strconv.AppendBool(nil, bool(v)), nil }

// Instances reads a JSON list, or one object as old clients write it.
type Instances []Instance

// UnmarshalJSON implements json.Unmarshaler.
func (l *Instances) UnmarshalJSON(b []byte) error {
	return oneOrMany((*[]Instance)(l), b)
}

// MarshalJSON writes a list even when it is empty.
func (l Instances) MarshalJSON() ([]byte, error) { return list([]Instance(l)) }

// Apps reads a JSON list, or one object as old clients write it.
type Apps []Application

// UnmarshalJSON implements json.Unmarshaler.
func (l *Apps) UnmarshalJSON(b []byte) error { return oneOrMany((*[]Application)(l), b) }

// MarshalJSON writes a list even when it is empty.
func (l Apps) MarshalJSON() ([]byte, error) { return list([]Application(l)) }

func oneOrMany[T any](to *[]T, b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		*to = make([]T, 1)
		return json.Unmarshal(b, &(*to)[0])
	}
	return json.Unmarshal(b, to)
}

func list[T any](l []T) ([]byte, error) {
	if len(l) == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal(l)
}
