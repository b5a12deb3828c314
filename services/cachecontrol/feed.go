package cachecontrol

import (
	"cmp"
	"math"
	"slices"
	"time"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// feed is what the appliances of one region fill in which order: its
// popularity feed, after which the region's viewers ask. Sites of one region
// share it. It is not safe for concurrent use.
type feed struct {
	region string
	// measured is what the region's viewers streamed, by title.
	measured map[string]measured
	// asOf is when the region's latest measurement was made: all are brought to it.
	asOf time.Time
	// level is the popularity by which a title is ranked. It follows what is
	// known only once that has moved by more than churn, so that two titles
	// that are about as popular do not push each other out by turns.
	level map[string]float64

	order []int32 // file numbers in the order of fill
	rank  []int32 // of a file, by number
	// titles in the order of their popularity; each is a run of order.
	titles []rankedTitle
	// stale: the order does not reflect the levels yet.
	stale bool
	// urgent is how many files at the front of order belong to titles that
	// somebody waits for.
	urgent int
	// bytes of all titles.
	bytes uint64
	// whole assigns everything; shared by the appliances that have room for it.
	whole *assignment
}

// churn is the factor by which a popularity has to change to count.
const churn = 1.25

// rankedTitle is a title of a feed.
type rankedTitle struct {
	asset       *pb.Asset
	files       []int32 // shared, in the order of the catalogue
	first, last int     // its files are order[first:last]
	bytes       uint64
	popularity  float64 // streams of the whole title
	hash        uint64
}

// demand is the bytes that viewers stream of the title, in arbitrary units of
// time that are the same for all titles.
func (t rankedTitle) demand() float64 { return t.popularity * float64(t.bytes) }

// measured is how much a region watches a title, as the stream pipeline writes
// it: bytes streamed ÷ size, smoothed.
type measured struct {
	// Forecast is the popularity expected for the time that comes, as of At.
	Forecast float64   `json:"forecast"`
	At       time.Time `json:"at"`
	// Rungs are the bytes streamed of each rung, smoothed.
	Rungs map[string]float64 `json:"rungs"`
}

func newFeed(region string) *feed {
	return &feed{region: region, measured: map[string]measured{}, level: map[string]float64{}}
}

// popularity is what is known of a title: what was measured, and what its
// publisher expected, of which one half is forgotten in each half-life that the
// region is measured. Both are facts that every cache control reads alike; no
// clock is asked.
func (f *feed) popularity(a *pb.Asset, halfLife time.Duration) float64 {
	m := f.measured[a.GetTitleId()]
	return m.Forecast*halved(f.asOf.Sub(m.At), halfLife) + a.GetPopularity()*halved(f.asOf.Sub(time.UnixMilli(a.GetPublishedUnixMs())), halfLife)
}

// halved is what is left of one after an age: a half after each half-life.
func halved(age, halfLife time.Duration) float64 {
	if halfLife <= 0 || age <= 0 {
		return 1
	}
	return math.Exp2(-age.Seconds() / halfLife.Seconds())
}

// settle returns the level of a title, which follows what is known with churn.
func (f *feed) settle(a *pb.Asset, halfLife time.Duration) float64 {
	now := f.popularity(a, halfLife)
	old, ok := f.level[a.GetTitleId()]
	if ok && now <= old*churn && now >= old/churn {
		return old
	}
	f.level[a.GetTitleId()] = now
	return now
}

// measure takes measurements. It says whether they change what a title is
// ranked by.
func (f *feed) measure(c *catalogue, ms map[string]measured, halfLife time.Duration) (moved bool) {
	for title, m := range ms {
		f.measured[title] = m
		if m.At.After(f.asOf) {
			f.asOf = m.At
		}
	}
	for title, a := range c.assets {
		old, known := f.level[title]
		moved = f.settle(a, halfLife) != old && known || moved
	}
	return moved
}

// rebuild brings the order up to date, with the titles that somebody waits for
// in front.
func (f *feed) rebuild(c *catalogue, halfLife time.Duration, hurry map[string]bool) {
	titles := make([]rankedTitle, 0, len(c.assets))
	f.bytes = 0
	for id, a := range c.assets {
		r := c.runs[id]
		t := rankedTitle{asset: a, files: r.files, bytes: r.bytes, popularity: f.settle(a, halfLife), hash: r.hash}
		f.bytes += t.bytes
		titles = append(titles, t)
	}
	slices.SortFunc(titles, func(a, b rankedTitle) int {
		if len(hurry) > 0 {
			if c := compareBools(hurry[b.asset.GetTitleId()], hurry[a.asset.GetTitleId()]); c != 0 {
				return c
			}
		}
		if a.popularity != b.popularity {
			return cmp.Compare(b.popularity, a.popularity)
		}
		return cmp.Compare(a.asset.GetTitleId(), b.asset.GetTitleId())
	})
	f.urgent, f.stale = 0, false
	f.order = f.order[:0]
	f.rank = slices.Grow(f.rank[:0], len(c.files))[:len(c.files)]
	for i := range titles {
		t := &titles[i]
		t.first = len(f.order)
		f.order = append(f.order, t.files...)
		t.last = len(f.order)
		if rungs := perByte(t.asset, f.measured[t.asset.GetTitleId()].Rungs); len(rungs) > 0 {
			slices.SortFunc(f.order[t.first:], func(a, b int32) int { return compareWithinTitle(&c.files[a], &c.files[b], rungs) })
		}
		if hurry[t.asset.GetTitleId()] {
			f.urgent = t.last
		}
	}
	for r, n := range f.order {
		f.rank[n] = int32(r)
	}
	f.titles = titles
	f.whole = &assignment{count: len(f.order), bytes: f.bytes}
	for _, n := range f.order {
		f.whole.files.set(n)
	}
	for id := range f.level { // of titles that are published no more
		if c.assets[id] == nil {
			delete(f.level, id)
		}
	}
}

// perByte divides what was streamed of each rung by its size.
func perByte(a *pb.Asset, streamed map[string]float64) map[string]float64 {
	if len(streamed) == 0 {
		return nil
	}
	out := make(map[string]float64, len(streamed))
	for _, f := range a.GetFiles() {
		if n := streamed[f.GetRung()]; n > 0 && f.GetSize() > 0 && kindOrder(f.GetKind()) == 2 {
			out[f.GetRung()] += n / float64(f.GetSize())
		}
	}
	return out
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// compareWithinTitle puts first what a player asks for first: manifests and
// the index, then sound, then the rungs that are streamed most per byte of
// theirs, and where that is not known from the lowest, so that a title can be
// played before the last of it has arrived.
func compareWithinTitle(x, y *plannedFile, rungs map[string]float64) int {
	return cmp.Or(cmp.Compare(kindOrder(x.file.GetKind()), kindOrder(y.file.GetKind())), cmp.Compare(rungs[y.file.GetRung()], rungs[x.file.GetRung()]),
		cmp.Compare(x.file.GetKbps(), y.file.GetKbps()), cmp.Compare(x.ref.path, y.ref.path))
}

// titleOf finds a title's rank in the feed.
func (f *feed) titleOf(title string) (i int, ok bool) {
	i = slices.IndexFunc(f.titles, func(t rankedTitle) bool { return t.asset.GetTitleId() == title })
	return i, i >= 0
}
