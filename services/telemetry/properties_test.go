package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// heard is a watcher that writes down what it hears.
type heard struct {
	mu   sync.Mutex
	what []string
	last map[string]string
}

func (h *heard) hear(name, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.what = append(h.what, name+"="+value)
	if h.last == nil {
		h.last = map[string]string{}
	}
	h.last[name] = value
}

func (h *heard) take() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := strings.Join(h.what, " ")
	h.what = nil
	return out
}

func TestPropertiesWatch(t *testing.T) {
	start := map[string]string{"a": "1", "b": "2"}
	p := NewProperties(start)
	start["a"] = "changed outside"
	var h heard
	p.Watch(h.hear)
	if got := h.take(); got != "a=1 b=2" {
		t.Errorf("at once it hears %q", got)
	}
	for _, c := range []struct {
		set  map[string]string
		want string
	}{
		{map[string]string{"a": "1"}, ""},                  // no change
		{map[string]string{"a": "3", "b": "2"}, "a=3"},     // only what changed
		{map[string]string{"c": "x", "a": "4"}, "a=4 c=x"}, // by name
		{map[string]string{"c": ""}, "c="},                 // unset
		{map[string]string{"c": ""}, ""},                   // unset already
		{map[string]string{"never": ""}, ""},               // was not there
		{nil, ""},
	} {
		p.Set(c.set)
		if got := h.take(); got != c.want {
			t.Errorf("after %v it hears %q, want %q", c.set, got, c.want)
		}
	}
	if got := p.All(); len(got) != 2 || got["a"] != "4" || p.Get("b") != "2" || p.Get("c") != "" {
		t.Errorf("values %v", got)
	}
	all := p.All()
	all["a"] = "changed outside"
	if p.Get("a") != "4" {
		t.Error("All hands out its own map")
	}
}

// TestWatchersRunBeforeSetReturns in the order they were added, and may read.
func TestWatchersRunBeforeSetReturns(t *testing.T) {
	p := NewProperties(nil)
	var order []string
	for k := range 3 {
		p.Watch(func(name, value string) {
			if p.Get(name) != value || p.All()[name] != value {
				t.Errorf("a watcher hears %s=%s and reads %q", name, value, p.Get(name))
			}
			order = append(order, fmt.Sprint(k))
		})
	}
	p.Set(map[string]string{"a": "1"})
	if !slices.Equal(order, []string{"0", "1", "2"}) {
		t.Errorf("order %v", order)
	}
}

// TestWatchersEndOnTheLastValue changes one property from many sides, while
// more watchers come: each must have heard last what is stored last.
func TestWatchersEndOnTheLastValue(t *testing.T) {
	for range 50 {
		p := NewProperties(map[string]string{"k": "start"})
		watchers := make([]heard, 8)
		var wg sync.WaitGroup
		for n := range watchers {
			wg.Go(func() { p.Watch(watchers[n].hear) })
			wg.Go(func() {
				for v := range 10 {
					p.Set(map[string]string{"k": fmt.Sprintf("%d-%d", n, v)})
				}
			})
		}
		wg.Wait()
		for n := range watchers {
			if got, want := watchers[n].last["k"], p.Get("k"); got != want {
				t.Fatalf("watcher %d ends on %q, stored is %q", n, got, want)
			}
		}
	}
}
