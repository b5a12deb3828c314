package oca

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path"
	"strings"
	"sync/atomic"

	"github.com/flix-lab/flix/services"
	pb "github.com/flix-lab/flix/services/cachecontrol/cachecontrolpb"
)

// ref names one file of one version of a title.
type ref struct {
	title   string
	version uint64
	path    string
}

func refOf(f *pb.HeldFile) ref {
	return ref{title: f.GetTitleId(), version: f.GetVersion(), path: f.GetPath()}
}

func (r ref) held(size uint64) *pb.HeldFile {
	return &pb.HeldFile{TitleId: r.title, Version: r.version, Path: r.path, Size: size}
}

func (r ref) String() string { return fmt.Sprintf("%s/%d/%s", r.title, r.version, r.path) }

// check says whether the name can be stored and served.
func (r ref) check() error {
	if !validName(r.title) || strings.Contains(r.title, "/") || r.version == 0 || !validName(r.path) {
		return services.Errorf(services.Invalid, "%q is not a file of a title", r.String())
	}
	return nil
}

// validName says whether a name is a clean relative path.
func validName(p string) bool {
	return p != "" && p != "." && len(p) <= 512 && path.Clean(p) == p && p[0] != '/' && p != ".." && !strings.HasPrefix(p, "../") &&
		!strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' || r == '\uFFFD' })
}

// message is a stored file as cache control hears of it.
func (e entry) message(r ref) *pb.HeldFile {
	f := r.held(e.size)
	f.From = e.from
	for _, k := range []pb.Source{pb.Source_SOURCE_CACHE, pb.Source_SOURCE_TIER, pb.Source_SOURCE_PEER} {
		if sourceName(k) == e.source {
			f.Source = k
		}
	}
	return f
}

// sum is the SHA-256 of a file.
type sum [32]byte

func (s sum) String() string { return hex.EncodeToString(s[:]) }

// objectPath is where a file's bytes lie. All lie in one folder: file systems
// hash their entries, and making a folder costs as much as making a file.
func (s sum) objectPath() string { return objectsDir + "/" + s.String() }

// The operations of the index log.
const (
	opPut   = "put"   // a file is stored
	opDel   = "del"   // it is not any more
	opFill  = "fill"  // bytes received by source over the appliance's life
	opEpoch = "epoch" // the message counter starts above this
)

// record is one line of the index log: the CRC-32C of its JSON in eight
// hexadecimal digits, a space, the JSON, a line feed.
type record struct {
	Op      string     `json:"op"`
	Title   string     `json:"t,omitempty"`
	Version uint64     `json:"v,omitempty"`
	Path    string     `json:"p,omitempty"`
	SHA256  string     `json:"sha256,omitempty"`
	Size    uint64     `json:"size,omitempty"`
	Source  string     `json:"src,omitempty"`
	From    string     `json:"from,omitempty"`
	Filled  *fillBytes `json:"filled,omitempty"`
	Epoch   uint64     `json:"epoch,omitempty"`
}

// fillBytes counts the bytes received by the kind of their source.
type fillBytes struct {
	Cache uint64 `json:"cache"`
	Tier  uint64 `json:"tier"`
	Peer  uint64 `json:"peer"`
}

// fillCounters is fillBytes while it grows. Safe for concurrent use.
type fillCounters struct{ cache, tier, peer atomic.Uint64 }

func (f *fillCounters) add(k pb.Source, n uint64) {
	switch k {
	case pb.Source_SOURCE_CACHE:
		f.cache.Add(n)
	case pb.Source_SOURCE_TIER:
		f.tier.Add(n)
	case pb.Source_SOURCE_PEER:
		f.peer.Add(n)
	}
}

func (f *fillCounters) set(b fillBytes) {
	f.cache.Store(b.Cache)
	f.tier.Store(b.Tier)
	f.peer.Store(b.Peer)
}

func (f *fillCounters) load() fillBytes {
	return fillBytes{Cache: f.cache.Load(), Tier: f.tier.Load(), Peer: f.peer.Load()}
}

func (f fillBytes) message() *pb.FillBytes {
	return &pb.FillBytes{Cache: f.Cache, Tier: f.Tier, Peer: f.Peer}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends the line of a record.
func appendRecord(b []byte, r record) []byte {
	body, err := json.Marshal(r)
	if err != nil { // record holds only strings and numbers
		panic("oca: index record: " + err.Error())
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(body, castagnoli))
	return append(append(b, body...), '\n')
}

// parseRecord reads a line without its line feed.
func parseRecord(line []byte) (record, bool) {
	head, body, ok := bytes.Cut(line, []byte{' '})
	var crc [4]byte
	if n, err := hex.Decode(crc[:], head[:min(len(head), 8)]); !ok || len(head) != 8 || err != nil || n != 4 {
		return record{}, false
	}
	if crc32.Checksum(body, castagnoli) != uint32(crc[0])<<24|uint32(crc[1])<<16|uint32(crc[2])<<8|uint32(crc[3]) {
		return record{}, false
	}
	var r record
	if json.Unmarshal(body, &r) != nil {
		return record{}, false
	}
	return r, true
}

// indexState is what an index log says.
type indexState struct {
	files  map[ref]entry
	filled fillBytes
	epoch  uint64
	// lines that were read, and damaged ones among them, the torn tail of a
	// killed process included.
	lines, damaged int
}

// entry is a stored file.
type entry struct {
	sum    sum
	size   uint64
	source string
	from   string // whoever gave it: an appliance, or "origin/REGION"
}

// readIndex replays a log. A line that is damaged is passed over: every line
// stands for itself.
func readIndex(log []byte) indexState {
	st := indexState{files: map[ref]entry{}}
	for len(log) > 0 {
		line, rest, whole := bytes.Cut(log, []byte{'\n'})
		log = rest
		if len(line) == 0 && whole {
			continue
		}
		st.lines++
		r, ok := parseRecord(line)
		if !ok || !whole || !st.apply(r) {
			st.damaged++
		}
	}
	return st
}

func (st *indexState) apply(r record) bool {
	name := ref{r.Title, r.Version, r.Path}
	switch r.Op {
	case opPut:
		digest, err := hex.DecodeString(r.SHA256)
		if err != nil || len(digest) != len(sum{}) || name.check() != nil {
			return false
		}
		st.files[name] = entry{sum: sum(digest), size: r.Size, source: r.Source, from: r.From}
	case opDel:
		delete(st.files, name)
	case opFill:
		if r.Filled == nil {
			return false
		}
		st.filled = *r.Filled
	case opEpoch:
		st.epoch = max(st.epoch, r.Epoch)
	default:
		return false
	}
	return true
}

func fillRecord(f fillBytes) record { return record{Op: opFill, Filled: &f} }

func putRecord(r ref, e entry) record {
	return record{Op: opPut, Title: r.title, Version: r.version, Path: r.path, SHA256: e.sum.String(), Size: e.size, Source: e.source, From: e.from}
}

func delRecord(r ref) record {
	return record{Op: opDel, Title: r.title, Version: r.version, Path: r.path}
}
