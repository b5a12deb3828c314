package oca

import "testing"

// TestUnrouted is of an appliance that lacks routes and nothing else.
func TestUnrouted(t *testing.T) {
	h := newHealth()
	for _, c := range []struct {
		what string
		do   func()
		want bool
	}{
		{"well", func() {}, false},
		{"no session", func() { h.setSession("bgp: no session") }, true},
		{"and the disk fails", func() { h.set("disk: full") }, false},
		{"which mends", func() { h.set("") }, true},
		{"draining", h.drain, false},
	} {
		c.do()
		if got := h.unrouted(); got != c.want || got && h.reason() == "" {
			t.Errorf("%s: unrouted %v, want %v; %q", c.what, got, c.want, h.reason())
		}
	}
}
