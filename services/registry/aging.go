package registry

import (
	"container/list"
	"time"
)

// aging is a map whose entries are forgotten in the order they were put.
type aging[V any] struct {
	by    map[key]*list.Element
	order *list.List // of *aged[V], oldest first
}

type aged[V any] struct {
	key key
	at  time.Time
	val V
}

func newAging[V any]() *aging[V] { return &aging[V]{map[key]*list.Element{}, list.New()} }

// put replaces what is known of a key; it is the youngest from now on.
func (a *aging[V]) put(k key, v V, now time.Time) {
	a.drop(k)
	a.by[k] = a.order.PushBack(&aged[V]{k, now, v})
}

func (a *aging[V]) get(k key) (V, time.Time, bool) {
	e, ok := a.by[k]
	if !ok {
		var none V
		return none, time.Time{}, false
	}
	v := e.Value.(*aged[V])
	return v.val, v.at, true
}

func (a *aging[V]) drop(k key) {
	if e, ok := a.by[k]; ok {
		a.order.Remove(e)
		delete(a.by, k)
	}
}

// prune drops what was put before the time, and the oldest of more than most,
// and tells gone of each.
func (a *aging[V]) prune(before time.Time, most int, gone func(V)) {
	for e := a.order.Front(); e != nil; e = a.order.Front() {
		v := e.Value.(*aged[V])
		if !v.at.Before(before) && len(a.by) <= most {
			return
		}
		a.order.Remove(e)
		delete(a.by, v.key)
		if gone != nil {
			gone(v.val)
		}
	}
}

func (a *aging[V]) len() int { return len(a.by) }

// each calls f for every entry, oldest first.
func (a *aging[V]) each(f func(V)) {
	for e := a.order.Front(); e != nil; e = e.Next() {
		f(e.Value.(*aged[V]).val)
	}
}
