package registry

import (
	"testing"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// Whoever waits for an answer that is not made after all makes one himself.
func TestAnswerThatIsNotMade(t *testing.T) {
	a := newAnswers(time.Now)
	w := wanted{resource: "apps"}
	begun, fail := make(chan struct{}), make(chan struct{})
	failed := make(chan any)
	go func() {
		defer func() { failed <- recover() }()
		a.get(w, 0, func() (content, []byte) {
			close(begun)
			<-fail
			panic("no answer")
		})
	}()
	<-begun
	got := make(chan answer)
	go func() {
		got <- a.get(w, 0, func() (content, []byte) { return content{}, []byte("made") })
	}()
	close(fail)
	if p := <-failed; p != "no answer" {
		t.Errorf("the panic is lost: %v", p)
	}
	select {
	case g := <-got:
		if string(g.body) != "made" {
			t.Errorf("%q", g.body)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the second waits for ever")
	}
}

// A client of two registries knows the sum of their versions. It may take a delta
// only if it has, in any case, what either has forgotten.
func TestDeltaOfTwoRegistriesSaysWhatItLacks(t *testing.T) {
	for name, c := range map[string]struct{ a, b, more, since uint64 }{
		"nothing is forgotten": {0, 0, 0, 0},
		"here":                 {5, 0, 0, 5 + 20 + 30},
		"there":                {0, 15, 0, 15 + 10 + 30},
		"in a third":           {0, 0, 25, 25 + 10 + 20},
		"everywhere":           {9, 1, 29, 9 + 20 + 30},
	} {
		all := content{version: 10, since: c.a, counts: map[string]int{}}.
			with(content{version: 20, since: c.b}).with(content{version: 30, since: c.more, list: []*eureka.Instance{}})
		if all.version != 60 || all.since != c.since {
			t.Errorf("%s: version %d, since %d; want %d", name, all.version, all.since, c.since)
		}
	}
}
