package services

import (
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	for want, n := range map[string]int{"0 plays": 0, "1 play": 1, "2 plays": 2} {
		if got := Count(n, "play"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := Count(uint64(1), "instance"); got != "1 instance" {
		t.Error(got)
	}
}

func TestList(t *testing.T) {
	for want, names := range map[string][]string{"": nil, "a": {"a"}, "a, b, c": {"a", "b", "c"}} {
		if got := List(names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestListOf(t *testing.T) {
	for want, d := range map[string][]time.Duration{"": nil, "1s": {time.Second}, "1s, 2ms": {time.Second, 2 * time.Millisecond}} {
		if got := ListOf(d); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
