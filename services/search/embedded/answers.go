package embedded

import (
	"sync"

	"github.com/flix-lab/flix/services/search/searchpb"
)

// maxAnswers bounds the answers that are kept: at most maxHits hits each, and
// few have more than a handful.
const maxAnswers = 256

// maxQuestion bounds the text of a question that is kept, in bytes: titles are
// shorter.
const maxQuestion = 256

// question is what an answer depends on, beside the index.
type question struct {
	text  string
	limit int
}

// answers keeps what was asked of the index as it is: near matches of a word
// cost an automaton each, and viewers ask for the same few titles. Any change of
// the index drops all. The zero value is ready.
type answers struct {
	mu      sync.Mutex
	changes uint64 // of the index
	known   map[question]*searchpb.QueryReply
}

// get returns a kept answer, which nobody may change; nil if there is none. An
// answer that is worked out after it is kept under the number of changes.
func (a *answers) get(q question) (r *searchpb.QueryReply, changes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[q], a.changes
}

// keep keeps an answer unless the index has changed since get, or nobody will ask
// the same again.
func (a *answers) keep(q question, r *searchpb.QueryReply, changes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if changes != a.changes || len(q.text) > maxQuestion {
		return
	}
	if a.known == nil || len(a.known) >= maxAnswers {
		a.known = make(map[question]*searchpb.QueryReply)
	}
	a.known[q] = r
}

// drop forgets all of them, after a change of the index or an attempt at one.
func (a *answers) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changes++
	a.known = nil
}
