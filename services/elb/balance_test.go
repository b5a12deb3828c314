package elb

import (
	"fmt"
	"testing"
	"time"
)

func tlsAddr(t Target) string { return t.Addr }

func TestPick(t *testing.T) {
	now := time.Unix(1000, 0)
	targets := []Target{{ID: "a1", Zone: "a", Addr: "1"}, {ID: "a2", Zone: "a", Addr: "2"}, {ID: "b1", Zone: "b", Addr: "3"}}
	tests := []struct {
		name    string
		active  [3]int64
		ejected [3]bool
		want    string
	}{
		{"least connections", [3]int64{5, 2, 0}, [3]bool{}, "a2"},
		{"ejected", [3]int64{5, 2, 0}, [3]bool{false, true, false}, "a1"},
		{"own zone ejected", [3]int64{0, 0, 9}, [3]bool{true, true, false}, "b1"},
		{"all ejected", [3]int64{5, 2, 0}, [3]bool{true, true, true}, "a2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b balancer
			b.init("a", time.Second)
			cs := b.candidates(targets, tlsAddr)
			for i := range cs {
				cs[i].load.active.Store(tt.active[i])
				if tt.ejected[i] {
					b.refusedAt(cs[i], now)
				}
			}
			got, left := b.pick(cs, now.Add(time.Millisecond))
			if got.id != tt.want {
				t.Errorf("picked %s, want %s", got.id, tt.want)
			}
			for _, c := range left {
				if c.id == got.id {
					t.Errorf("%s is still left", c.id)
				}
			}
			if len(left) != 2 {
				t.Errorf("%d left, want 2", len(left))
			}
		})
	}
}

func TestEjectionLapses(t *testing.T) {
	var b balancer
	b.init("a", time.Second)
	now := time.Unix(1000, 0)
	targets := []Target{{ID: "a1", Zone: "a", Addr: "1"}, {ID: "b1", Zone: "b", Addr: "2"}}
	b.refusedAt(b.candidates(targets, tlsAddr)[0], now)
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{{time.Millisecond, "b1"}, {time.Second, "a1"}} {
		if got, _ := b.pick(b.candidates(targets, tlsAddr), now.Add(tt.after)); got.id != tt.want {
			t.Errorf("after %s: %s, want %s", tt.after, got.id, tt.want)
		}
	}
}

func TestForgetsTargetsThatAreGone(t *testing.T) {
	var b balancer
	b.init("a", time.Second)
	for i := range 1000 {
		b.candidates([]Target{{ID: "a1", Zone: "a", Addr: fmt.Sprint(i)}}, tlsAddr)
	}
	if n := len(b.loads); n > 32 {
		t.Errorf("%d loads kept for one target", n)
	}
}

func BenchmarkPick(bm *testing.B) {
	var b balancer
	b.init("a", time.Second)
	targets := []Target{{ID: "a1", Zone: "a", Addr: "1"}, {ID: "a2", Zone: "a", Addr: "2"}, {ID: "b1", Zone: "b", Addr: "3"}}
	bm.ReportAllocs()
	for bm.Loop() {
		b.pick(b.candidates(targets, tlsAddr), time.Unix(0, 0))
	}
}
