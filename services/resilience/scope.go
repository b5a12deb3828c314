package resilience

import (
	"context"
	"errors"
	"sync"
)

// maxRemembered bounds what one request's scope remembers; more is asked for
// each time.
const maxRemembered = 256

type scopeKey struct{}

// scope remembers what was answered within one request.
type scope struct {
	mu   sync.Mutex
	know map[memoKey]*memo
}

type memoKey struct{ command, key string }

type memo struct {
	done chan struct{} // closed when the rest is set
	v    any
	err  error
}

// WithScope begins a request within which Once remembers.
func WithScope(ctx context.Context) context.Context {
	return context.WithValue(ctx, scopeKey{}, &scope{})
}

// Once answers f once within the scope of a request for a command and a key:
// whoever asks again, at the same time too, gets the same answer, and the
// command counts a response from cache. A failure is not remembered. Without a
// scope, or with the property requestCache.enabled off, it is f.
func Once[V, T any](ctx context.Context, c *Command[T], key string, f func(context.Context) (V, error)) (V, error) {
	sc, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok || c.c.settings.Load().cacheOff {
		return f(ctx)
	}
	k := memoKey{c.c.name, key}
	for {
		m, mine := sc.claim(k)
		if m == nil {
			return f(ctx)
		}
		if mine {
			return remember(ctx, sc, k, m, f)
		}
		select {
		case <-m.done:
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
		if errors.Is(m.err, context.Canceled) && ctx.Err() == nil {
			continue // whoever asked first has left
		}
		v, ok := m.v.(V)
		if !ok && m.err == nil {
			return f(ctx) // another command of that name gives something else
		}
		c.c.count(c.c.clock.now(), responseFromCache)
		return v, m.err
	}
}

// claim returns the memo of a key, and whether the caller has to fill it; nil
// when no more is remembered.
func (s *scope) claim(k memoKey) (m *memo, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.know[k]; ok {
		return m, false
	}
	if len(s.know) >= maxRemembered {
		return nil, false
	}
	if s.know == nil {
		s.know = make(map[memoKey]*memo)
	}
	m = &memo{done: make(chan struct{}), err: errUnfinished}
	s.know[k] = m
	return m, true
}

// errUnfinished is what others hear when the first one panicked.
var errUnfinished = errors.New("whoever asked first did not finish")

func remember[V any](ctx context.Context, sc *scope, k memoKey, m *memo, f func(context.Context) (V, error)) (V, error) {
	defer func() {
		if m.err != nil && !isAnswer(m.err) {
			sc.mu.Lock()
			delete(sc.know, k)
			sc.mu.Unlock()
		}
		close(m.done)
	}()
	v, err := f(ctx)
	m.v, m.err = v, err
	return v, err
}
