package objects

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A blob is one file: the data, then its metadata as JSON, the JSON's length
// (4 bytes, big endian) and a mark. Data and metadata so become visible by one
// rename, and a kill at any moment leaves either the old blob or the new.
const (
	blobMark   = "FLIXBLB1"
	blobTail   = 4 + len(blobMark)
	maxBlobDoc = 64 << 10
	copyBuffer = 128 << 10
	tempDir    = "tmp"
)

// meta describes a stored object or part.
type meta struct {
	Key      string    `json:"key,omitempty"`
	Size     int64     `json:"size"`
	ETag     string    `json:"etag"`
	SHA256   string    `json:"sha256"`
	Modified time.Time `json:"modified"`
	attributes
}

// attributes are what the writer said about an object.
type attributes struct {
	ContentType string `json:"content_type,omitempty"`
	// Headers are Cache-Control and the like, by canonical name.
	Headers map[string]string `json:"headers,omitempty"`
	// User are the x-amz-meta- headers, by canonical name.
	User map[string]string `json:"user,omitempty"`
}

// blobs writes and reads blobs below one directory.
type blobs struct {
	root    *os.Root
	seq     atomic.Uint64
	buffers sync.Pool // of *[]byte, copyBuffer long
}

func newBlobs(root *os.Root) *blobs {
	return &blobs{root: root, buffers: sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}}
}

// draft is a blob in the making: a temporary file that commit gives its name
// and discard removes.
type draft struct {
	b    *blobs
	f    *os.File
	name string
	size int64
}

// draft starts a blob.
func (b *blobs) draft() (*draft, error) {
	name := tempDir + "/" + strconv.FormatUint(b.seq.Add(1), 10)
	f, err := b.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &draft{b: b, f: f, name: name}, nil
}

// fill appends everything r holds, through the digests.
func (d *draft) fill(r io.Reader, sums *digests) error {
	buf, _ := d.b.buffers.Get().(*[]byte)
	defer d.b.buffers.Put(buf)
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(d.f, sums)}, onlyReader{r}, *buf)
	d.size += n
	return err
}

// onlyReader and onlyWriter hide ReaderFrom and WriterTo, which would bring
// buffers of their own.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// seal writes the metadata and closes the file. commit may follow.
func (d *draft) seal(m meta) error {
	doc, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(doc) > maxBlobDoc {
		return errInvalidArgument.with("The metadata is too large.")
	}
	doc = binary.BigEndian.AppendUint32(doc, uint32(len(doc)))
	if _, err := d.f.Write(append(doc, blobMark...)); err != nil {
		return err
	}
	return d.f.Close()
}

// commit gives the sealed blob its name.
func (d *draft) commit(name string) error { return d.b.root.Rename(d.name, name) }

// discard drops a draft that was not committed; harmless after commit.
func (d *draft) discard() {
	_ = d.f.Close()             // already closed by seal, or about to vanish
	_ = d.b.root.Remove(d.name) // gone after commit; else swept at the next start
}

// open opens a blob and reads its metadata. The file stands at offset 0 and
// its data ends at meta.Size.
func (b *blobs) open(name string) (*os.File, meta, error) {
	f, err := b.root.Open(name)
	if err != nil {
		return nil, meta{}, err
	}
	m, err := readMeta(f)
	if err != nil {
		_ = f.Close()
		return nil, meta{}, fmt.Errorf("blob %s: %w", name, err)
	}
	return f, m, nil
}

// stat reads a blob's metadata.
func (b *blobs) stat(name string) (meta, error) {
	f, m, err := b.open(name)
	if err != nil {
		return meta{}, err
	}
	return m, f.Close()
}

func readMeta(f *os.File) (meta, error) {
	info, err := f.Stat()
	if err != nil {
		return meta{}, err
	}
	var tail [blobTail]byte
	end := info.Size() - int64(blobTail)
	if end < 0 {
		return meta{}, errors.New("too short")
	}
	if _, err := f.ReadAt(tail[:], end); err != nil {
		return meta{}, err
	}
	n := int64(binary.BigEndian.Uint32(tail[:4]))
	if string(tail[4:]) != blobMark || n > maxBlobDoc || n > end {
		return meta{}, errors.New("no metadata at its end")
	}
	doc := make([]byte, n)
	if _, err := f.ReadAt(doc, end-n); err != nil {
		return meta{}, err
	}
	var m meta
	if err := json.Unmarshal(doc, &m); err != nil {
		return meta{}, err
	}
	if m.Size != end-n {
		return meta{}, errors.New("its length and its metadata differ")
	}
	return m, nil
}

// sweep removes what an earlier process left half done.
func (b *blobs) sweep() error {
	if err := b.root.MkdirAll(tempDir, 0o700); err != nil {
		return err
	}
	entries, err := fs.ReadDir(b.root.FS(), tempDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := b.root.RemoveAll(tempDir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}
