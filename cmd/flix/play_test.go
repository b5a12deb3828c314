package main

import (
	"slices"
	"testing"
)

// What failed time and again, as reports to a lab that goes down, is one line.
func TestErrorsOnceEach(t *testing.T) {
	got := onceEach([]string{"a", "b", "a", "c", "a"})
	if want := []string{"3 × a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
