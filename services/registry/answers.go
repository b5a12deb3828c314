package registry

import (
	"bytes"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

const (
	// maxAnswers bounds the cached answers; there are a few per application.
	maxAnswers = 1024
	// maxAnswerBytes bounds the bytes they hold.
	maxAnswerBytes = 128 << 20
	// freshBytes is the size up to which an answer is made anew at every
	// change. A larger one may be as old as it takes to send it at staleRate,
	// and staleMost at most: ten thousand instances that start at once would
	// have ten megabytes written for each of them otherwise.
	freshBytes = 256 << 10
	staleRate  = 10 << 20 // bytes per second
	staleMost  = time.Second
)

// wanted names an answer: which resource, of whom, in which form.
type wanted struct {
	resource, name string
	form           eureka.Form
	gzip           bool
}

// answer is a serialised body.
type answer struct {
	body    []byte
	version uint64
	// since is the version after which a delta lacks no change.
	since uint64
	found bool
	// plain is the length of the body before compression.
	plain int
	made  time.Time
}

// answers caches serialised bodies until the registry changes, so that a poll
// of a quiet registry costs a map lookup.
type answers struct {
	clock func() time.Time

	mu     sync.Mutex
	bodies map[wanted]answer
	bytes  int
	making map[wanted]*making
}

// making is an answer that somebody is at work on.
type making struct {
	done  chan struct{}
	got   answer
	whole bool // nothing went wrong with it
}

func newAnswers(clock func() time.Time) *answers {
	return &answers{clock: clock, bodies: map[wanted]answer{}, making: map[wanted]*making{}}
}

// usable says whether an answer will do for the registry as it is now.
func (a answer) usable(version uint64, now time.Time) bool {
	age := now.Sub(a.made)
	if a.version == version {
		return age < renewalShown || age < 0
	}
	if a.plain <= freshBytes || age < 0 {
		return false
	}
	return age < min(staleMost, time.Duration(a.plain)*time.Second/staleRate)
}

// get returns the answer, made by build when the cached one will not do. Those
// who want the same at once wait for one of them to make it, provided that it
// is begun after the change they know of.
func (a *answers) get(w wanted, version uint64, build func() (content, []byte)) answer {
	for {
		a.mu.Lock()
		if got, ok := a.bodies[w]; ok && got.usable(version, a.clock()) {
			a.mu.Unlock()
			return got
		}
		if m := a.making[w]; m != nil {
			a.mu.Unlock()
			<-m.done
			if m.whole && m.got.version >= version {
				return m.got
			}
			continue
		}
		m := &making{done: make(chan struct{})}
		a.making[w] = m
		a.mu.Unlock()
		defer func() { // also when build panics: those who wait make one themselves
			a.keep(w, m)
			close(m.done)
		}()
		m.got = produce(w, build, a.clock)
		m.whole = true
		return m.got
	}
}

func produce(w wanted, build func() (content, []byte), clock func() time.Time) answer {
	made := clock()
	c, body := build()
	got := answer{body: body, version: c.version, since: c.since, found: len(c.list) > 0, plain: len(body), made: made}
	if w.gzip {
		got.body = compress(body)
	}
	return got
}

// keep ends the making of an answer and keeps it, if it is whole.
func (a *answers) keep(w wanted, m *making) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.making, w)
	if !m.whole {
		return
	}
	got := m.got
	a.bytes -= len(a.bodies[w].body)
	delete(a.bodies, w)
	// Old ones are of no use to anybody; at worst all are made again.
	if len(a.bodies) >= maxAnswers || a.bytes+len(got.body) > maxAnswerBytes {
		a.bodies, a.bytes = map[wanted]answer{}, 0
	}
	a.bodies[w] = got
	a.bytes += len(got.body)
}

// compress at the fastest level: records are so alike that it shrinks them
// tenfold all the same.
func compress(b []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(b)/8 + 64)
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		if _, err = z.Write(b); err == nil {
			err = z.Close()
		}
	}
	if err != nil { // neither the level nor a buffer can fail
		panic("registry: " + err.Error())
	}
	return out.Bytes()
}
