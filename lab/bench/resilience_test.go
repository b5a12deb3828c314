package main

import (
	"testing"

	"github.com/flix-lab/flix/lab/record"
)

// A burst between two looks that lie close together counts for that time alone.
func TestMeanRate(t *testing.T) {
	r := record.Record{ID: "r", Series: []record.Series{{Name: "starts", Points: []record.Point{{At: 1, Value: 999}, {At: 5, Value: 10}, {At: 6, Value: 50}}}}}
	if got, err := meanRate(r, "starts"); err != nil || got != 18 {
		t.Errorf("%v, %v; want 18: 40 in four seconds and 50 in one", got, err)
	}
	if _, err := meanRate(r, "errors"); err == nil {
		t.Error("a series that is not there has a mean")
	}
}
