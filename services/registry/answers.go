package registry

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"sync"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// maxAnswers bounds the cached answers; there are a few per application.
const maxAnswers = 1024

// wanted names an answer: which resource, of whom, in which form.
type wanted struct {
	resource, name string
	media          string
	gzip           bool
}

// answer is a serialised body.
type answer struct {
	body []byte
	etag string
	// since is the version after which a delta lacks no change.
	since uint64
	found bool
}

// answers caches serialised bodies until the registry changes, so that a poll
// of a quiet registry costs a map lookup. A delta may so list changes a
// little past their retention, which does a client no harm.
type answers struct {
	store *store

	mu      sync.Mutex
	version uint64
	bodies  map[wanted]answer
}

func newAnswers(s *store) *answers { return &answers{store: s, bodies: map[wanted]answer{}} }

// get returns the answer, made by build when the cached one is out of date.
func (a *answers) get(w wanted, build func() (content, func(media string) ([]byte, error))) (answer, error) {
	now := a.store.current()
	a.mu.Lock()
	if a.version != now {
		a.version, a.bodies = now, map[wanted]answer{}
	}
	got, ok := a.bodies[w]
	a.mu.Unlock()
	if ok {
		return got, nil
	}
	c, encode := build()
	body, err := encode(w.media)
	if err != nil {
		return answer{}, err
	}
	if w.gzip {
		if body, err = compress(body); err != nil {
			return answer{}, err
		}
	}
	form := "x"
	if w.media == eureka.JSON {
		form = "j"
	}
	if w.gzip {
		form += "z"
	}
	got = answer{body: body, since: c.since, found: len(c.apps.Regional) > 0, etag: fmt.Sprintf(`"%s-%d-%s"`, a.store.epoch, c.version, form)}
	a.mu.Lock()
	if a.version == c.version && len(a.bodies) < maxAnswers {
		a.bodies[w] = got
	}
	a.mu.Unlock()
	return got, nil
}

func compress(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
