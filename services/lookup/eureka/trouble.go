package eureka

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// trouble says what is wrong with a document in words of the document, not of the
// program that reads it.
func trouble(what string, err error) error {
	var (
		odd    *json.UnmarshalTypeError
		syntax *json.SyntaxError
	)
	switch {
	case errors.As(err, &odd):
		field := odd.Field
		if field == "" {
			field = "the document"
		}
		return fmt.Errorf("%s: %s: %s is not %s", what, field, jsonKind(odd.Value), wanted(odd.Type))
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: no JSON at byte %d: %w", what, syntax.Offset, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s: the document has no XML element", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// jsonKind is what a value is; package json names the kinds of values that it
// cannot take, this package quotes those that it cannot.
func jsonKind(value string) string {
	switch value {
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "number", "string", "bool":
		return "a " + value
	}
	return value
}

func wanted(t reflect.Type) string {
	if t == nil {
		return "what belongs there"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "an integer"
}

// inElement adds an element's name to the error of a value in it.
func inElement(start xml.StartElement, err error) error {
	var odd *json.UnmarshalTypeError
	if errors.As(err, &odd) && odd.Field == "" {
		odd.Field = start.Name.Local
	}
	return err
}

// oddValue is the error of a value that is not of a type. Package json adds the
// name of the field.
func oddValue[T any](b []byte) error {
	return &json.UnmarshalTypeError{Value: fmt.Sprintf("%.60q", b), Type: reflect.TypeFor[T]()}
}
