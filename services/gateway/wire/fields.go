package wire

import (
	"iter"
	"net/http"
	"slices"
)

// Field is one line of a header or trailer.
type Field struct{ Name, Value string }

// Fields is a header or trailer in the order it was received or written. Names
// are compared without regard to case. A *Fields is a reference, as a map is;
// a nil one is empty and can be read, not written.
//
// A message has some ten fields: to look through them is cheaper than to hash
// their names, and a slice can be used again where a map must be made anew.
type Fields struct{ list []Field }

// NewFields returns fields of name, value pairs.
func NewFields(pairs ...string) *Fields {
	f := &Fields{list: make([]Field, 0, len(pairs)/2+4)}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.list = append(f.list, Field{pairs[i], pairs[i+1]})
	}
	return f
}

// FromHTTP returns the fields of a net/http header. Fields of one name keep
// their order; names have none.
func FromHTTP(h http.Header) *Fields {
	f := &Fields{list: make([]Field, 0, len(h)+4)}
	for name, values := range h {
		for _, v := range values {
			f.list = append(f.list, Field{name, v})
		}
	}
	return f
}

// AddToHTTP adds the fields to a net/http header.
func (f *Fields) AddToHTTP(h http.Header) {
	for name, value := range f.All() {
		h.Add(name, value)
	}
}

// Len is the number of fields.
func (f *Fields) Len() int {
	if f == nil {
		return 0
	}
	return len(f.list)
}

// All yields name and value of every field in order.
func (f *Fields) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if f == nil {
			return
		}
		for i := range f.list {
			if !yield(f.list[i].Name, f.list[i].Value) {
				return
			}
		}
	}
}

// index of the first field of a name at or after from, or -1.
func (f *Fields) index(name string, from int) int {
	if f == nil {
		return -1
	}
	for i := from; i < len(f.list); i++ {
		if SameName(f.list[i].Name, name) {
			return i
		}
	}
	return -1
}

// Get returns the first value of a name, or "".
func (f *Fields) Get(name string) string {
	if i := f.index(name, 0); i >= 0 {
		return f.list[i].Value
	}
	return ""
}

// Has says whether there is a field of a name.
func (f *Fields) Has(name string) bool { return f.index(name, 0) >= 0 }

// Values returns every value of a name, nil for none.
func (f *Fields) Values(name string) []string {
	var out []string
	for i := f.index(name, 0); i >= 0; i = f.index(name, i+1) {
		out = append(out, f.list[i].Value)
	}
	return out
}

// Set replaces every field of a name by one.
func (f *Fields) Set(name, value string) {
	i := f.index(name, 0)
	if i < 0 {
		f.list = append(f.list, Field{name, value})
		return
	}
	f.list[i].Value = value
	if f.index(name, i+1) >= 0 {
		kept := f.list[:i+1]
		for _, o := range f.list[i+1:] {
			if !SameName(o.Name, name) {
				kept = append(kept, o)
			}
		}
		f.cut(len(kept))
	}
}

// Add appends a field.
func (f *Fields) Add(name, value string) { f.list = append(f.list, Field{name, value}) }

// Del removes every field of a name.
func (f *Fields) Del(name string) {
	if i := f.index(name, 0); i >= 0 {
		f.DelFunc(func(n string) bool { return SameName(n, name) })
	}
}

// DelFunc removes the fields whose name drop says so of.
func (f *Fields) DelFunc(drop func(name string) bool) {
	if f == nil {
		return
	}
	kept := f.list[:0]
	for _, o := range f.list {
		if !drop(o.Name) {
			kept = append(kept, o)
		}
	}
	f.cut(len(kept))
}

// cut ends the list at n and lets go of the strings behind it.
func (f *Fields) cut(n int) {
	clear(f.list[n:])
	f.list = f.list[:n]
}

// Reset removes all fields and keeps the room.
func (f *Fields) Reset() { f.cut(0) }

// Clone returns a copy that shares nothing with the original.
func (f *Fields) Clone() *Fields {
	if f == nil {
		return nil
	}
	return &Fields{list: slices.Clone(f.list)}
}

// SameName compares two field names without regard to the case of ASCII
// letters.
func SameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	if a == b {
		return true
	}
	for i := 0; i < len(a); i++ {
		if x, y := a[i], b[i]; x != y && lower(x) != lower(y) {
			return false
		}
	}
	return true
}

// HasNamePrefix says whether a name begins with a prefix, whatever the case of
// its letters.
func HasNamePrefix(name, prefix string) bool {
	return len(name) >= len(prefix) && SameName(name[:len(prefix)], prefix)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
