package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestPrintSameNames checks that YAML has the names of the JSON form, not those
// of a Go struct.
func TestPrintSameNames(t *testing.T) {
	type inner struct {
		PlayDelayMS float64 `json:"play_delay_ms"`
	}
	v := struct {
		TraceID string           `json:"trace_id"`
		Big     uint64           `json:"big"`
		Nested  map[string]inner `json:"nested"`
		None    []string         `json:"none"`
	}{"007", 1 << 60, map[string]inner{"a": {1.5}}, []string{}}
	decode := func(format string) map[string]any {
		t.Helper()
		var b bytes.Buffer
		o := output{format: format}
		if err := o.print(&app{env: Env{Out: &b}}, v); err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		var err error
		if format == "yaml" {
			err = yaml.Unmarshal(b.Bytes(), &m)
		} else {
			err = json.Unmarshal(b.Bytes(), &m)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", format, err, b.String())
		}
		return m
	}
	for _, format := range []string{"json", "yaml"} {
		m := decode(format)
		if m["trace_id"] != "007" { // a string that looks like a number stays one
			t.Errorf("%s: trace_id = %#v", format, m["trace_id"])
		}
		if _, ok := m["nested"].(map[string]any)["a"].(map[string]any)["play_delay_ms"]; !ok {
			t.Errorf("%s: nested = %#v", format, m["nested"])
		}
		if xs, ok := m["none"].([]any); !ok || len(xs) != 0 {
			t.Errorf("%s: none = %#v, want an empty list", format, m["none"])
		}
	}
	if big := decode("yaml")["big"]; big != 1<<60 {
		t.Errorf("yaml: big = %#v, want %d exactly", big, 1<<60)
	}
}
