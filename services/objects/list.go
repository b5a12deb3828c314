package objects

import (
	"slices"
	"strings"
)

// maxListKeys is the most entries of one page of a listing (S3's).
const maxListKeys = 1000

// listing asks for a page of a bucket's keys.
type listing struct {
	prefix, delimiter string
	// after is the key, or common prefix, that the page before ended with.
	after string
	max   int
}

// page is one page of a listing: objects and common prefixes, in key order.
type page struct {
	objects  []meta
	prefixes []string
	more     bool
	// last is the entry the page ends with; the next page follows it.
	last string
}

// list returns a page of the keys of a bucket.
func (s *store) list(bucketName string, l listing) (page, error) {
	b, err := s.bucket(bucketName)
	if err != nil {
		return page{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	var p page
	i := l.start(b.keys)
	for i < len(b.keys) && strings.HasPrefix(b.keys[i], l.prefix) {
		if len(p.objects)+len(p.prefixes) >= l.max {
			p.more = l.max > 0
			break
		}
		key := b.keys[i]
		if common, ok := l.common(key); ok {
			p.prefixes = append(p.prefixes, common)
			p.last = common
			i = skipPrefix(b.keys, i, common)
			continue
		}
		p.objects = append(p.objects, b.metas[key])
		p.last = key
		i++
	}
	return p, nil
}

// start returns the index of the first key of the page.
func (l listing) start(keys []string) int {
	i, _ := slices.BinarySearch(keys, l.prefix)
	if l.after == "" || l.after < l.prefix {
		return i
	}
	j, exact := slices.BinarySearch(keys, l.after)
	if exact {
		j++
	}
	// A page that ended with a common prefix has shown all keys below it.
	if l.delimiter != "" && strings.HasSuffix(l.after, l.delimiter) {
		j = skipPrefix(keys, j, l.after)
	}
	return max(i, j)
}

// common returns the part of key up to the delimiter after the prefix.
func (l listing) common(key string) (string, bool) {
	if l.delimiter == "" {
		return "", false
	}
	i := strings.Index(key[len(l.prefix):], l.delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(l.prefix)+i+len(l.delimiter)], true
}

// skipPrefix returns the index of the first key from i on without the prefix.
func skipPrefix(keys []string, i int, prefix string) int {
	n, _ := slices.BinarySearchFunc(keys[i:], prefix, func(k, p string) int {
		if strings.HasPrefix(k, p) || k < p {
			return -1
		}
		return 1
	})
	return i + n
}
