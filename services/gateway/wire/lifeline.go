package wire

import (
	"context"
	"sync"
)

// Lifeline ends what a server does for a client when the client goes away. It
// stands for one context: to hook on to it costs no allocation, as
// context.AfterFunc would.
type Lifeline struct {
	done <-chan struct{}
	mu   sync.Mutex
	link *link
	cut  bool
}

// newLifeline returns a lifeline for a context; call Cut after its end.
func newLifeline(ctx context.Context) *Lifeline { return &Lifeline{done: ctx.Done()} }

// Cut ends what hangs on the lifeline, now and later.
func (f *Lifeline) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
	if f.link != nil {
		f.link.abort()
	}
}

// hold hangs a link on the lifeline, instead of the one before.
func (f *Lifeline) hold(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link = l
	if f.cut && l != nil {
		l.abort()
	}
}

// standsFor says whether the lifeline is cut whenever ctx ends: contexts that
// only carry values share their parent's channel.
func (f *Lifeline) standsFor(ctx context.Context) bool { return f != nil && f.done == ctx.Done() }
