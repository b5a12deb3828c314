package registry

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
)

// content is what one answer is made of.
type content struct {
	list    []*eureka.Instance // sorted by application and id
	counts  map[string]int     // of the whole registry, or of list
	version uint64
	since   uint64
}

func (c content) encode(f eureka.Form, version string) []byte {
	return eureka.AppendRecords(make([]byte, 0, 256+c.size(f)), version, eureka.Hash(c.counts), c.list, f)
}

// size guesses the length of the encoded list, in bytes.
func (c content) size(f eureka.Form) int {
	if len(c.list) == 0 {
		return 0
	}
	return len(c.list) * len(eureka.AppendInstance(nil, c.list[len(c.list)/2], f)) * 9 / 8
}

// show is a lease's instance with a renewal that is not too long ago.
func (l *lease) show() *eureka.Instance {
	if l.renewed.Sub(time.UnixMilli(int64(l.inst.Lease.LastRenewal))) > renewalShown {
		l.inst = l.copied()
		l.inst.Lease.LastRenewal = eureka.Num(l.renewed.UnixMilli())
	}
	return l.inst
}

// full lists every instance.
func (s *store) full(time.Time) content {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := content{list: make([]*eureka.Instance, 0, len(s.leases)), counts: s.countsNow(), version: s.version, since: s.since}
	for _, a := range s.apps {
		for _, l := range a.sorted {
			c.list = append(c.list, l.show())
		}
	}
	return c
}

func (s *store) countsNow() map[string]int {
	out := make(map[string]int, len(s.counts))
	for status, n := range s.counts {
		out[status] = n
	}
	return out
}

// application lists the instances of one.
func (s *store) application(name string) content {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := content{counts: map[string]int{}, version: s.version, since: s.since}
	n, found := slices.BinarySearchFunc(s.apps, name, func(a *application, name string) int { return strings.Compare(a.name, name) })
	if !found {
		return c
	}
	for _, l := range s.apps[n].sorted {
		c.add(l.show())
	}
	return c
}

// only lists the instances that pass.
func (s *store) only(pass func(*eureka.Instance) bool) content {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := content{counts: map[string]int{}, version: s.version, since: s.since}
	for _, a := range s.apps {
		for _, l := range a.sorted {
			if pass(l.inst) {
				c.add(l.show())
			}
		}
	}
	return c
}

func (c *content) add(in *eureka.Instance) {
	c.list = append(c.list, in)
	c.counts[in.Status]++
}

// delta lists the recent changes, with the counts of the whole registry.
func (s *store) delta(now time.Time) content {
	s.mu.Lock()
	s.forget(now)
	c := content{list: make([]*eureka.Instance, 0, s.recent.len()), counts: s.countsNow(), version: s.version, since: s.since}
	s.recent.each(func(ch change) { c.list = append(c.list, ch.inst) })
	s.mu.Unlock()
	c.sort()
	return c
}

func (c *content) sort() {
	slices.SortFunc(c.list, func(a, b *eureka.Instance) int {
		if n := strings.Compare(a.App, b.App); n != 0 {
			return n
		}
		return strings.Compare(a.InstanceID, b.InstanceID)
	})
}

// with merges the contents of another region's registry. The versions add up, so
// that a client's sum says little of either: it has all that one registry has
// forgotten only if it does with the whole of the other's version taken off.
func (c content) with(o content) content {
	out := content{
		list: slices.Concat(c.list, o.list), version: c.version + o.version,
		counts: make(map[string]int, len(c.counts)),
	}
	if c.since > 0 {
		out.since = c.since + o.version
	}
	if o.since > 0 {
		out.since = max(out.since, o.since+c.version)
	}
	for _, m := range []map[string]int{c.counts, o.counts} {
		for status, n := range m {
			out.counts[status] += n
		}
	}
	out.sort()
	return out
}

func (c content) deltaVersion() string { return strconv.FormatUint(c.version, 10) }

// current is the version of the registry now.
func (s *store) current() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// find returns the instance, of any application when app is empty, with its
// last renewal.
func (s *store) find(app, id string) *eureka.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lease(app, id)
	if l == nil {
		return nil
	}
	in := l.copied()
	in.Lease.LastRenewal = eureka.Num(l.renewed.UnixMilli())
	return in
}

func (s *store) lease(app, id string) *lease {
	if app != "" {
		return s.leases[key{app, id}]
	}
	for _, a := range s.apps {
		if n, found := a.find(id); found {
			return a.sorted[n]
		}
	}
	return nil
}

// each calls f for every lease, in order; f must be quick.
func (s *store) each(f func(*lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.apps {
		for _, l := range a.sorted {
			f(l)
		}
	}
}
