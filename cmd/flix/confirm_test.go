package main

import (
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, " Yes\n": true, "y": true, "n\n": false, "\n": false, "": false, "yesterday\n": false} {
		var errOut strings.Builder
		a := &app{env: Env{In: strings.NewReader(answer), Err: &errOut, Getenv: func(string) string { return "" }}}
		err := a.confirm(t.Context(), "begin it?")
		if (err == nil) != want || err != nil && services.KindOf(err) != services.Conflict {
			t.Errorf("after %q: %v", answer, err)
		}
		if errOut.String() != "begin it? [y/N] " {
			t.Errorf("it asks %q", errOut.String())
		}
	}
	for _, c := range []struct{ out, err, yes, want bool }{{true, true, false, true}, {true, true, true, false}, {false, true, false, false}, {true, false, false, false}} {
		if got := (&app{env: Env{OutTTY: c.out, ErrTTY: c.err}}).asks(c.yes); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
