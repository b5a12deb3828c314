package embedded

import (
	"strings"
	"testing"

	"github.com/flix-lab/flix/services/search/searchpb"
)

func TestAnswersOfAnotherIndexAreNotKept(t *testing.T) {
	var a answers
	q := question{"harbor", 5}
	r, changes := a.get(q)
	if r != nil {
		t.Fatalf("an answer out of nothing: %v", r)
	}
	old, now := &searchpb.QueryReply{}, &searchpb.QueryReply{Hits: []*searchpb.Hit{{Id: "tt-1"}}}
	a.drop() // the index changes while the answer is worked out
	a.keep(q, old, changes)
	r, changes = a.get(q)
	if r != nil {
		t.Fatal("an answer of the index before is kept")
	}
	a.keep(q, now, changes)
	if r, _ := a.get(q); r != now {
		t.Errorf("kept %v, got %v", now, r)
	}
	if r, _ := a.get(question{"harbor", 6}); r != nil {
		t.Error("another limit has the same answer")
	}
	a.drop()
	if r, _ := a.get(q); r != nil {
		t.Error("an answer outlives a change of the index")
	}
}

func TestAnswersAreBounded(t *testing.T) {
	var a answers
	for i := range 3 * maxAnswers {
		a.keep(question{"harbor", i}, &searchpb.QueryReply{}, 0)
		if len(a.known) > maxAnswers {
			t.Fatalf("%d answers are kept", len(a.known))
		}
	}
}

// A question that is longer than any title is answered and not kept: 256 of them
// would be as much memory as a caller likes.
func TestLongQuestionsAreNotKept(t *testing.T) {
	var a answers
	for _, c := range []struct {
		length int
		kept   bool
	}{{maxQuestion, true}, {maxQuestion + 1, false}} {
		q := question{strings.Repeat("x", c.length), 1}
		_, changes := a.get(q)
		a.keep(q, &searchpb.QueryReply{}, changes)
		if r, _ := a.get(q); (r != nil) != c.kept {
			t.Errorf("a question of %d bytes: kept is %v, want %v", c.length, r != nil, c.kept)
		}
	}
}
