package main

import (
	"bytes"
	"strings"
	"testing"
)

// A daemon of another build is told of once, and not among the answers.
func TestBuildOfTheDaemon(t *testing.T) {
	var out, errs bytes.Buffer
	a := &app{env: Env{Out: &out, Err: &errs, Getenv: func(string) string { return "" }}, name: "default"}
	warn := a.warnOfBuild()
	warn("")
	warn("")
	if out.Len() > 0 || strings.Count(errs.String(), "is of another build, an older one, and this flix is ") != 1 || !strings.Contains(errs.String(), "flix lab down") {
		t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
	}
}
