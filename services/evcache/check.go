package evcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flix-lab/flix/services"
)

const (
	// DefaultSample is how many keys a check looks at unless it is told.
	DefaultSample = 1000
	// MaxSample bounds it: the sample is kept in memory.
	MaxSample = 100_000
	// checkWorkers look at keys at once.
	checkWorkers = 8
	// maxDifferences bounds those that a report names.
	maxDifferences = 100
	// expiryTolerance is how far two zones' times to live may be apart, in
	// seconds: writes reach them one after the other.
	expiryTolerance = 3
	// settle is the pause before a difference is looked at again: a write may
	// have been on its way.
	settle = 50 * time.Millisecond
)

// CheckOptions say what to check.
type CheckOptions struct {
	// Sample is how many keys to look at; 0 for DefaultSample.
	Sample int
	// Repair makes the zones equal where they differ.
	Repair bool
}

// Difference is a key on which zones disagree.
type Difference struct {
	Key string `json:"key"`
	// Kind is missing (some zones have it, some not), value or expiry.
	Kind string `json:"kind"`
	// Zones tell what each has: absent, or a digest of the value.
	Zones map[string]string `json:"zones"`
	// Repaired says how it was made good: the zone that the others follow now.
	Repaired string `json:"repaired,omitempty"`
	Error    string `json:"error,omitempty"`
}

// LeftOut is a zone that was not compared, and why.
type LeftOut struct {
	Zone  string `json:"zone"`
	Error string `json:"error"`
}

// Checked is the report of a check.
type Checked struct {
	// Zones that were compared. LeftOut are the others: they do not answer, or no
	// other one does.
	Zones   []string  `json:"zones"`
	LeftOut []LeftOut `json:"left_out"`
	// Keys looked at, Equal of them the same in every zone, Gone of them ended
	// meanwhile.
	Keys  int `json:"keys"`
	Equal int `json:"equal"`
	Gone  int `json:"gone"`
	// Missing, Values and Expiries count the differences by kind.
	Missing  int `json:"missing"`
	Values   int `json:"values"`
	Expiries int `json:"expiries"`
	Repaired int `json:"repaired"`
	// Differences are some of them, at most 100.
	Differences []Difference `json:"differences"`
}

// Check takes a sample of the keys of every zone and compares what the zones
// hold under each. It looks twice before it calls something a difference. With
// Repair the zones follow the value that most of them hold, and, where there is
// no majority, the one that lives longest: that was written last if all are
// written for the same time.
//
// A zone with a server that does not answer is left out, whenever that shows, and
// the others are compared anew; one that is left alone is left out, too.
//
// A cache evicts by itself, zone by zone, so missing items are no fault as
// such; many of them are.
func (c *Client) Check(ctx context.Context, o CheckOptions) (Checked, error) {
	if o.Sample == 0 {
		o.Sample = DefaultSample
	}
	if o.Sample < 0 || o.Sample > MaxSample {
		return Checked{}, services.Errorf(services.Invalid, "evcache.Check: a sample of %d keys is not between 1 and %d", o.Sample, MaxSample)
	}
	f, err := c.fleet()
	if err != nil {
		return Checked{}, services.Wrap("evcache.Check", err)
	}
	out := Checked{Zones: []string{}, LeftOut: []LeftOut{}, Differences: []Difference{}}
	zones := slices.Clone(f.zones)
	for len(zones) > 0 {
		if len(zones) == 1 && len(out.LeftOut) > 0 {
			out.LeftOut = append(out.LeftOut, LeftOut{Zone: zones[0].name, Error: "no other zone answers that it could be compared with"})
			return out, nil
		}
		results, err := c.judgeAll(ctx, zones, o)
		if s := new(silentZone); ctx.Err() == nil && errors.As(err, &s) {
			out.LeftOut = append(out.LeftOut, LeftOut{Zone: s.zone.name, Error: s.err.Error()})
			zones = slices.DeleteFunc(zones, func(z *zone) bool { return z == s.zone })
			continue
		}
		if err != nil {
			return out, services.Wrap("evcache.Check", err)
		}
		for _, v := range results {
			out.count(v)
		}
		for _, z := range zones {
			out.Zones = append(out.Zones, z.name)
		}
		return out, nil
	}
	return out, nil
}

// silentZone is the error of a zone whose server does not answer.
type silentZone struct {
	zone *zone
	err  error
}

// Error implements error.
func (s *silentZone) Error() string { return "zone " + s.zone.name + ": " + s.err.Error() }

// Unwrap returns the cause.
func (s *silentZone) Unwrap() error { return s.err }

// judgeAll takes a sample of the keys and compares each over the zones. It fails
// with a silentZone where one does not answer.
func (c *Client) judgeAll(ctx context.Context, zones []*zone, o CheckOptions) ([]verdict, error) {
	keys, err := c.sample(ctx, zones, o.Sample)
	if err != nil {
		return nil, err
	}
	results := make([]verdict, len(keys))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(checkWorkers)
	for i, key := range keys {
		g.Go(func() (err error) {
			results[i], err = c.judge(gctx, zones, []byte(key), o.Repair)
			return err
		})
	}
	return results, g.Wait()
}

// verdict is what became of one key.
type verdict struct {
	gone bool
	diff *Difference
}

func (r *Checked) count(v verdict) {
	r.Keys++
	switch {
	case v.gone:
		r.Gone++
		return
	case v.diff == nil:
		r.Equal++
		return
	}
	switch v.diff.Kind {
	case "missing":
		r.Missing++
	case "value":
		r.Values++
	default:
		r.Expiries++
	}
	if v.diff.Repaired != "" {
		r.Repaired++
	}
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, *v.diff)
	}
}

// sample picks keys of every server, each as likely as any other of its server,
// and as many of each server as of any other.
func (c *Client) sample(ctx context.Context, zones []*zone, n int) ([]string, error) {
	servers := 0
	for _, z := range zones {
		servers += len(z.peers)
	}
	each := (n + servers - 1) / servers
	seen := map[string]bool{}
	for _, z := range zones {
		for _, p := range z.peers {
			picked := make([]string, 0, min(each, 1024))
			total := 0
			err := c.dump(ctx, p, func(d dumped) error { // reservoir sampling (Vitter's algorithm R)
				key := d.key
				if !lineKey([]byte(key)) {
					return nil // no client of this package wrote it
				}
				if base, n, ok := chunkOf([]byte(key)); ok {
					if n > 0 {
						return nil // the description stands for its pieces
					}
					key = string(base)
				}
				if total++; len(picked) < each {
					picked = append(picked, key)
				} else if i := rand.IntN(total); i < each {
					picked[i] = key
				}
				return nil
			})
			if err != nil {
				return nil, &silentZone{z, err}
			}
			for _, k := range picked {
				seen[k] = true
			}
		}
	}
	keys := make([]string, 0, len(seen))
	for k := range seen {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if len(keys) > n { // the same keys were picked less often than feared
		rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		keys = keys[:n]
		slices.Sort(keys)
	}
	return keys, nil
}

// held is what a zone holds under a key.
type held struct {
	zone *zone
	found
	absent bool
}

func (h held) same(o held) bool {
	return h.absent == o.absent && h.flags == o.flags && bytes.Equal(h.value, o.value)
}

// judge compares a key over the zones.
func (c *Client) judge(ctx context.Context, zones []*zone, id []byte, repair bool) (verdict, error) {
	var all []held
	kind := ""
	for look := range 2 {
		if look > 0 {
			t := time.NewTimer(settle)
			select {
			case <-ctx.Done():
				t.Stop()
				return verdict{}, ctx.Err()
			case <-t.C:
			}
		}
		var err error
		if all, err = c.heldBy(ctx, zones, id); err != nil {
			return verdict{}, err
		}
		if kind = compare(all); kind == "" || kind == "gone" {
			return verdict{gone: kind == "gone"}, nil
		}
	}
	d := &Difference{Key: string(id), Kind: kind, Zones: map[string]string{}}
	for _, h := range all {
		d.Zones[h.zone.name] = h.describe()
	}
	if repair {
		if best, err := c.align(ctx, all, id); err != nil {
			d.Error = err.Error()
		} else {
			d.Repaired = best
		}
	}
	return verdict{diff: d}, nil
}

func (c *Client) heldBy(ctx context.Context, zones []*zone, id []byte) ([]held, error) {
	out := make([]held, 0, len(zones))
	for _, z := range zones {
		f, err := c.lay.any().look(ctx, z, id)
		if err != nil && !errors.Is(err, ErrMiss) {
			return nil, &silentZone{z, err}
		}
		out = append(out, held{zone: z, found: f, absent: err != nil})
	}
	return out, nil
}

// compare says in what the zones differ; "" for in nothing.
func compare(all []held) string {
	absent, differ := 0, false
	least, most := int64(1<<62), int64(-1<<62)
	var first *held
	for i := range all {
		h := &all[i]
		if h.absent {
			absent++
			continue
		}
		if first == nil {
			first = h
		}
		differ = differ || !h.same(*first)
		ttl := h.ttl
		if ttl < 0 {
			ttl = 1 << 40 // for ever
		}
		least, most = min(least, ttl), max(most, ttl)
	}
	switch {
	case absent == len(all):
		return "gone"
	case differ:
		return "value"
	case absent > 0:
		return "missing"
	case most-least > expiryTolerance:
		return "expiry"
	}
	return ""
}

// align makes the zones hold what the best of them does, and returns its name.
func (c *Client) align(ctx context.Context, all []held, id []byte) (string, error) {
	best, votes := -1, 0
	for i := range all {
		if all[i].absent {
			continue
		}
		n := 0
		for j := range all {
			if all[i].same(all[j]) {
				n++
			}
		}
		longer := best >= 0 && n == votes && (all[i].ttl < 0 && all[best].ttl >= 0 || all[best].ttl >= 0 && all[i].ttl > all[best].ttl)
		if n > votes || longer {
			best, votes = i, n
		}
	}
	exp, ok := expiryOf(all[best].ttl, time.Now())
	if !ok {
		return "", errors.New("it ends now")
	}
	for i := range all {
		if i == best || !all[i].absent && all[i].same(all[best]) && all[i].ttl == all[best].ttl {
			continue
		}
		if err := c.lay.any().putIn(ctx, all[i].zone, id, all[best].found, exp); err != nil {
			return "", err
		}
	}
	return all[best].zone.name, nil
}

// describe tells what a zone holds, so that two can be told apart by eye.
func (h held) describe() string {
	if h.absent {
		return "absent"
	}
	life := "for ever"
	if h.ttl >= 0 {
		life = fmt.Sprintf("for %d s", h.ttl)
	}
	return fmt.Sprintf("%d bytes, crc %08x, flags %#x, %s", len(h.value), crc32.ChecksumIEEE(h.value), h.flags, life)
}
