package lab

import (
	"errors"
	"io"
	"sync"
)

// lazy makes a closable thing per key when it is first asked for.
type lazy[T io.Closer] struct {
	mu    sync.Mutex
	make  func(string) (T, error)
	items map[string]T
}

func newLazy[T io.Closer](f func(string) (T, error)) *lazy[T] {
	return &lazy[T]{make: f, items: map[string]T{}}
}

func (l *lazy[T]) get(key string) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.items[key]; ok {
		return t, nil
	}
	t, err := l.make(key)
	if err == nil {
		l.items[key] = t
	}
	return t, err
}

func (l *lazy[T]) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, t := range l.items {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}
