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
	// shared: another file has, or had, the same content.
	shared bool
}

// catalogue is the published files. It is not safe for concurrent use.
type catalogue struct {
	assets map[string]*pb.Asset
	files  []plannedFile // by number; a free one has a nil file
	free   []int32
	byRef  map[fileRef]int32
	bySum  map[checksum][]int32
	// runs are each asset's files in the order of compareWithinTitle, where nobody
	// has measured which rungs are streamed, and what its title hashes to.
	runs map[string]run

	// stale: the feeds do not reflect the assets yet.
	stale bool
}

// run is the files of an asset, in the order in which they are filled.
type run struct {
	files []int32
	bytes uint64
	hash  uint64
}

func newCatalogue() *catalogue {
	return &catalogue{assets: map[string]*pb.Asset{}, byRef: map[fileRef]int32{}, bySum: map[checksum][]int32{}, runs: map[string]run{}}
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
		c.line(a)
		return nil, nil
	}
	for _, f := range old.GetFiles() {
		withdrawn = append(withdrawn, c.byRef[fileRef{old.GetTitleId(), old.GetVersion(), f.GetPath()}])
	}
	for _, f := range a.GetFiles() {
		added = append(added, c.add(a, f))
	}
	c.line(a)
	return added, withdrawn
}

// line notes in which order an asset's files are filled.
func (c *catalogue) line(a *pb.Asset) {
	r := run{files: make([]int32, 0, len(a.GetFiles())), bytes: bytesOf(a), hash: hashID(a.GetTitleId())}
	for _, f := range a.GetFiles() {
		r.files = append(r.files, c.byRef[fileRef{a.GetTitleId(), a.GetVersion(), f.GetPath()}])
	}
	slices.SortFunc(r.files, func(a, b int32) int { return compareWithinTitle(&c.files[a], &c.files[b], nil) })
	c.runs[a.GetTitleId()] = r
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
	if same := c.bySum[p.sum]; len(same) > 1 {
		for _, m := range same {
			c.files[m].shared = true
		}
	}
	return n
}

// alike lists the files with a file's content, into a buffer of one for the
// usual case.
func (c *catalogue) alike(f int32, buf *[1]int32) []int32 {
	if c.files[f].shared {
		return c.bySum[c.files[f].sum]
	}
	buf[0] = f
	return buf[:]
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

func kindOrder(kind string) int {
	switch kind {
	case "manifest", "hls", "index":
		return 0
	case "audio":
		return 1
	}
	return 2
}

func bytesOf(a *pb.Asset) (total uint64) {
	for _, f := range a.GetFiles() {
		total += f.GetSize()
	}
	return total
}
