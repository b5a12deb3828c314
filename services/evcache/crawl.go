package evcache

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// crawlStep is how many items a crawl looks at while it holds the lock.
const crawlStep = 128

// crawl calls emit for every item there is, least recently used first, a few at
// a time and outside the lock. An item comes once, however often it is used
// meanwhile: whoever reads what is listed moves it ahead of the crawl. One that
// is stored meanwhile does not come. Only one crawl runs at a time; busy says
// that another does.
func (l *lru) crawl(emit func([]crawled) error) (busy bool, err error) {
	l.mu.Lock()
	if l.crawling {
		l.mu.Unlock()
		return true, nil
	}
	l.crawling = true
	l.crawls++
	c := crawl{id: l.crawls, newest: l.cas}
	mark := &item{marker: true}
	mark.prev, mark.next = l.head.prev, &l.head
	mark.prev.next, mark.next.prev = mark, mark
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.unlink(mark)
		l.crawling = false
		l.mu.Unlock()
	}()
	step := make([]crawled, 0, crawlStep)
	for more := true; more; {
		if step, more = l.advance(mark, c, step[:0]); len(step) == 0 {
			continue
		}
		if err := emit(step); err != nil {
			return false, err
		}
	}
	return false, nil
}

// crawl is one walk over the items: its number, and the newest version there was
// when it began.
type crawl struct {
	id     uint32
	newest uint64
}

// crawled is what a crawl tells of an item.
type crawled struct {
	key     string
	expires int64 // Unix nanoseconds; 0: never
	used    int64
	cas     uint64
	fetched bool
	size    int64
	value   int // bytes of the value
}

// advance moves the mark over a few items and tells of those that it is to; more
// says that there are others.
func (l *lru) advance(mark *item, c crawl, out []crawled) (_ []crawled, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now().UnixNano()
	for range crawlStep {
		if mark.prev == nil || mark.prev == &l.head {
			return out, false
		}
		it := mark.prev
		l.unlink(mark)
		mark.prev, mark.next = it.prev, it
		mark.prev.next, it.prev = mark, mark
		dead := it.expires != 0 && now >= it.expires || l.flushAt != 0 && now >= l.flushAt && it.stored < l.flushAt
		if !dead && it.crawl != c.id && it.cas <= c.newest {
			it.crawl = c.id
			out = append(out, crawled{it.key, it.expires, it.used, it.cas, it.fetched, it.size(), len(it.value)})
		}
	}
	return out, true
}

// unlink takes an element out of the list, if it is in it; l.mu is held.
func (l *lru) unlink(it *item) {
	if it.prev == nil {
		return
	}
	it.prev.next, it.next.prev = it.next, it.prev
	it.prev, it.next = nil, nil
}

// textCrawl answers "lru_crawler metadump all", one line for each item, as
// memcached 1.6 does; its other forms are accepted where they ask for nothing.
func (c *session) textCrawl(a [][]byte) error {
	if len(a) == 1 && (string(a[0]) == "enable" || string(a[0]) == "disable") || len(a) == 2 && (string(a[0]) == "sleep" || string(a[0]) == "tocrawl" || string(a[0]) == "crawl") {
		return c.say("OK")
	}
	if len(a) != 2 || string(a[0]) != "metadump" || string(a[1]) != "all" {
		return c.say("ERROR")
	}
	return c.dump(0, crawled.line)
}

// textCacheDump answers "stats cachedump CLASS LIMIT", from before there was a
// crawler: the class has to be the one that metadump and "stats items" tell of,
// any other is empty, and a limit of 0 is none.
func (c *session) textCacheDump(a [][]byte) error {
	if len(a) != 2 {
		return c.say("CLIENT_ERROR bad command line")
	}
	class, err := strconv.ParseUint(string(a[0]), 10, 32)
	limit, lerr := strconv.ParseUint(string(a[1]), 10, 32)
	switch {
	case err != nil || lerr != nil:
		return c.say("CLIENT_ERROR bad command line format")
	case class >= slabClasses:
		return c.say("CLIENT_ERROR Illegal slab id")
	case class != onlyClass:
		return c.say("END")
	}
	return c.dump(int(limit), crawled.oldLine)
}

// memcached has so many classes of slabs; all items here are of one.
const (
	slabClasses = 64
	onlyClass   = 1
)

// errEnough ends a crawl that has told as much as was asked for.
var errEnough = errors.New("that is enough")

// dump writes a line for each item, at most so many of them; 0 is all.
func (c *session) dump(limit int, render func(crawled, []byte) []byte) error {
	var line []byte
	n := 0
	busy, err := c.s.cache.crawl(func(step []crawled) error {
		for _, it := range step {
			line = render(it, line[:0])
			if _, err := c.w.Write(line); err != nil {
				return err
			}
			if n++; n == limit {
				return errEnough
			}
		}
		return nil
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return err
	case busy:
		return c.say("BUSY currently processing crawler request")
	}
	return c.say("END")
}

// escaped is a key in URL encoding, a blank as %20.
func escaped(key string) string { return strings.ReplaceAll(url.QueryEscape(key), "+", "%20") }

// line is an item's line in a metadump.
func (it crawled) line(b []byte) []byte {
	exp := int64(-1)
	if it.expires != 0 {
		exp = it.expires / int64(time.Second)
	}
	b = append(append(b, "key="...), escaped(it.key)...)
	b = strconv.AppendInt(append(b, " exp="...), exp, 10)
	b = strconv.AppendInt(append(b, " la="...), it.used/int64(time.Second), 10)
	b = strconv.AppendUint(append(b, " cas="...), it.cas, 10)
	if b = append(b, " fetch="...); it.fetched {
		b = append(b, "yes"...)
	} else {
		b = append(b, "no"...)
	}
	b = strconv.AppendInt(append(b, " cls=1 size="...), it.size, 10)
	return append(b, '\n')
}

// oldLine is an item's line in a cachedump. A key that only the binary protocol
// can name is written as a metadump writes it, or it would be more than a word.
func (it crawled) oldLine(b []byte) []byte {
	key := it.key
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		key = escaped(key)
	}
	b = append(append(append(b, "ITEM "...), key...), " ["...)
	b = strconv.AppendInt(b, int64(it.value), 10)
	b = strconv.AppendInt(append(b, " b; "...), it.expires/int64(time.Second), 10)
	return append(b, " s]\r\n"...)
}
