package cachecontrol

import (
	"cmp"
	"crypto/sha256"
	"slices"

	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// fileRef names one file of one version of a title.
type fileRef struct {
	title   string
	version uint64
	path    string
}

func refOf(f *pb.HeldFile) fileRef {
	return fileRef{title: f.GetTitleId(), version: f.GetVersion(), path: f.GetPath()}
}

func (r fileRef) held(size uint64) *pb.HeldFile {
	return &pb.HeldFile{TitleId: r.title, Version: r.version, Path: r.path, Size: size}
}

func compareRefs(a, b fileRef) int {
	return cmp.Or(cmp.Compare(a.title, b.title), cmp.Compare(a.version, b.version), cmp.Compare(a.path, b.path))
}

// checksum is the SHA-256 of a file: its identity as content. Two names with
// one checksum are fetched once.
type checksum [sha256.Size]byte

// plannedFile is a file of a published title; its number indexes bitsets.
type plannedFile struct {
	ref   fileRef
	sum   checksum
	file  *pb.File
	asset *pb.Asset
}

// catalogue is the published files in the order in which they are to be
// filled. It is not safe for concurrent use.
type catalogue struct {
	assets map[string]*pb.Asset
	files  []plannedFile // by number; a free one has a nil file
	free   []int32
	byRef  map[fileRef]int32
	bySum  map[checksum][]int32

	stale   bool // order, rank and classes do not reflect assets yet
	order   []int32
	rank    []int32
	classes map[uint64]*assignment
}

// assignment is what an appliance of some capacity has to hold.
type assignment struct {
	files bitset
	count int
	bytes uint64
}

func newCatalogue() *catalogue {
	return &catalogue{assets: map[string]*pb.Asset{}, byRef: map[fileRef]int32{}, bySum: map[checksum][]int32{}, classes: map[uint64]*assignment{}}
}

// put makes an asset known in place of the title's version before it. It
// returns the numbers of files that are new and those that were withdrawn; the
// latter stay valid until release.
func (c *catalogue) put(a *pb.Asset) (added, withdrawn []int32) {
	c.stale = true
	old := c.assets[a.GetTitleId()]
	c.assets[a.GetTitleId()] = a
	if old.GetVersion() == a.GetVersion() && old != nil {
		for _, f := range a.GetFiles() {
			if n, ok := c.byRef[fileRef{a.GetTitleId(), a.GetVersion(), f.GetPath()}]; ok {
				c.files[n].asset, c.files[n].file = a, f
			}
		}
		return nil, nil
	}
	for _, f := range old.GetFiles() {
		withdrawn = append(withdrawn, c.byRef[fileRef{old.GetTitleId(), old.GetVersion(), f.GetPath()}])
	}
	for _, f := range a.GetFiles() {
		added = append(added, c.add(a, f))
	}
	return added, withdrawn
}

func (c *catalogue) add(a *pb.Asset, f *pb.File) int32 {
	p := plannedFile{ref: fileRef{a.GetTitleId(), a.GetVersion(), f.GetPath()}, sum: checksum(f.GetSha256()), file: f, asset: a}
	var n int32
	if k := len(c.free); k > 0 {
		n, c.free = c.free[k-1], c.free[:k-1]
		c.files[n] = p
	} else {
		n = int32(len(c.files))
		c.files = append(c.files, p)
	}
	c.byRef[p.ref] = n
	c.bySum[p.sum] = append(c.bySum[p.sum], n)
	return n
}

// release lets the numbers of withdrawn files be used again.
func (c *catalogue) release(withdrawn []int32) {
	for _, n := range withdrawn {
		p := c.files[n]
		delete(c.byRef, p.ref)
		if rest := slices.DeleteFunc(c.bySum[p.sum], func(m int32) bool { return m == n }); len(rest) > 0 {
			c.bySum[p.sum] = rest
		} else {
			delete(c.bySum, p.sum)
		}
		c.files[n] = plannedFile{}
		c.free = append(c.free, n)
	}
}

// refresh brings order, rank and assignments up to date and says whether they
// changed.
func (c *catalogue) refresh() bool {
	if !c.stale {
		return false
	}
	c.stale = false
	clear(c.classes)
	c.order = c.order[:0]
	c.rank = slices.Grow(c.rank[:0], len(c.files))[:len(c.files)]
	for _, a := range c.byPopularity() {
		first := len(c.order)
		for _, f := range a.GetFiles() {
			c.order = append(c.order, c.byRef[fileRef{a.GetTitleId(), a.GetVersion(), f.GetPath()}])
		}
		slices.SortFunc(c.order[first:], c.compareWithinTitle)
	}
	for r, n := range c.order {
		c.rank[n] = int32(r)
	}
	return true
}

// byPopularity lists the assets, the most popular first, then by id.
func (c *catalogue) byPopularity() []*pb.Asset {
	all := make([]*pb.Asset, 0, len(c.assets))
	for _, a := range c.assets {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *pb.Asset) int {
		return cmp.Or(cmp.Compare(b.GetPopularity(), a.GetPopularity()), cmp.Compare(a.GetTitleId(), b.GetTitleId()))
	})
	return all
}

// compareWithinTitle puts first what a player asks for first: manifests and
// the index, then sound, then the rungs from the lowest, so that a title can
// be played before the last of it has arrived.
func (c *catalogue) compareWithinTitle(a, b int32) int {
	x, y := c.files[a], c.files[b]
	return cmp.Or(cmp.Compare(kindOrder(x.file.GetKind()), kindOrder(y.file.GetKind())),
		cmp.Compare(x.file.GetKbps(), y.file.GetKbps()), cmp.Compare(x.ref.path, y.ref.path))
}

func kindOrder(kind string) int {
	switch kind {
	case "manifest", "hls", "index":
		return 0
	case "audio":
		return 1
	}
	return 2
}

// assignment gives titles, whole, to an appliance of a capacity in bytes, the
// most popular first, passing over one that does not fit. Appliances of one
// capacity share it. Call refresh before.
func (c *catalogue) assignment(capacity uint64) *assignment {
	if a := c.classes[capacity]; a != nil {
		return a
	}
	a := &assignment{}
	for i := 0; i < len(c.order); {
		asset := c.files[c.order[i]].asset
		end := i + len(asset.GetFiles())
		if size := bytesOf(asset); size <= capacity-a.bytes {
			for _, n := range c.order[i:end] {
				a.files.set(n)
			}
			a.count += end - i
			a.bytes += size
		}
		i = end
	}
	c.classes[capacity] = a
	return a
}

func bytesOf(a *pb.Asset) (total uint64) {
	for _, f := range a.GetFiles() {
		total += f.GetSize()
	}
	return total
}
