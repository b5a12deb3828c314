package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/flix-lab/flix/services"
)

// TestWatched looks at pages as a terminal, a file and a program get them: a
// program got JSON of many lines, one document after the other.
func TestWatched(t *testing.T) {
	for _, c := range []struct {
		format string
		tty    bool
		want   string
	}{
		{"table", true, "\x1b[Hx 1\x1b[K\n\x1b[J\x1b[Hx 2\x1b[K\n\x1b[J"},
		{"table", false, "x 1\nx 2\n"},
		{"json", true, "{\"x\":1}\n{\"x\":2}\n"},
		{"yaml", false, "---\nx: 1\n---\nx: 2\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			env, _ := topEnv(t, c.tty)
			var out bytes.Buffer
			env.Out = &out
			o := output{format: c.format}
			ctx, stop := context.WithCancel(t.Context())
			shown := 0
			err := watched(ctx, &app{env: env}, o, func(_ context.Context, a *app) error {
				shown++
				if shown == 3 {
					stop()
					return ctx.Err()
				}
				if o.machine() {
					return o.print(a, map[string]int{"x": shown})
				}
				a.env.out().Printf("x %d\n", shown)
				return nil
			})
			if err != nil || out.String() != c.want {
				t.Errorf("%s, terminal %v: %q, %v; want %q", c.format, c.tty, out.String(), err, c.want)
			}
		})
	}
}

func TestWatchedEndsWithTheLab(t *testing.T) {
	env, _ := topEnv(t, true)
	gone := services.Errorf(services.NotFound, "there is no lab")
	err := watched(t.Context(), &app{env: env}, output{format: "table"}, func(context.Context, *app) error { return gone })
	if err == nil || !strings.Contains(err.Error(), "no lab") {
		t.Errorf("ended with %v", err)
	}
}
