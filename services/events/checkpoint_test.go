package events

import "testing"

// A source that rests is asked for no positions, one that got a record is, and
// so is one that has rested for long.
func TestCheckpointsRest(t *testing.T) {
	p := place{"starts", 0}
	r := replicator{next: map[place]pair{p: {source: 3, copy: 3}}}
	if _, rests := r.rests(); rests {
		t.Error("it rests before anything was settled")
	}
	settle := func() {
		now, _ := r.rests()
		r.settled = settled{at: now}
	}
	settle()
	for n := range lookAnyway {
		if _, rests := r.rests(); !rests {
			t.Fatalf("checkpoint %d is made though nothing came", n)
		}
	}
	if _, rests := r.rests(); rests {
		t.Error("it never looks again")
	}
	settle()
	r.next[p] = pair{source: 4, copy: 4}
	if now, rests := r.rests(); rests || now[p].source != 4 {
		t.Errorf("rests %v at %v after a record came", rests, now)
	}
}
