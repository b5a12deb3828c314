package objects

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flix-lab/flix/services"
)

const (
	bucketsDir = "buckets"
	uploadsDir = "uploads"
	lockFile   = "lock"
)

// store keeps buckets of objects in files and an index of their keys in
// memory. Locks cover the index and the names of files, never their contents.
type store struct {
	root  *os.Root
	blobs *blobs
	lock  *os.File
	now   func() time.Time

	mu      sync.RWMutex
	buckets map[string]*bucket
}

// bucket is the index of one bucket.
type bucket struct {
	name    string
	created time.Time

	mu    sync.RWMutex
	gone  bool // deleted while a writer held a pointer to it
	keys  []string
	metas map[string]meta
}

// openStore opens or makes the store in dir, which belongs to one process at
// a time.
func openStore(dir string, now func() time.Time) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &store{root: root, blobs: newBlobs(root), now: now, buckets: map[string]*bucket{}}
	if err := s.load(dir); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *store) load(dir string) error {
	lock, err := s.root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	s.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return services.Errorf(services.Conflict, "another object store uses %s", dir)
	}
	if err := s.blobs.sweep(); err != nil {
		return err
	}
	for _, d := range []string{bucketsDir, uploadsDir} {
		if err := s.root.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	entries, err := fs.ReadDir(s.root.FS(), bucketsDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := s.loadBucket(e)
		if err != nil {
			return fmt.Errorf("bucket %s: %w", e.Name(), err)
		}
		s.buckets[b.name] = b
	}
	return s.sweepUploads()
}

func (s *store) loadBucket(e fs.DirEntry) (*bucket, error) {
	info, err := e.Info()
	if err != nil {
		return nil, err
	}
	b := &bucket{name: e.Name(), created: info.ModTime(), metas: map[string]meta{}}
	files, err := fs.ReadDir(s.root.FS(), bucketsDir+"/"+b.name)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		m, err := s.blobs.stat(bucketsDir + "/" + b.name + "/" + f.Name())
		if err != nil {
			return nil, err
		}
		b.metas[m.Key] = m
		b.keys = append(b.keys, m.Key)
	}
	slices.Sort(b.keys)
	return b, nil
}

// close releases the directory.
func (s *store) close() error {
	var err error
	if s.lock != nil {
		err = s.lock.Close()
	}
	return errors.Join(err, s.root.Close())
}

// objectPath names the file of an object. A key is free text of up to 1024
// bytes, so its digest stands for it.
func objectPath(bucket, key string) string {
	sum := sha256.Sum256([]byte(key))
	return bucketsDir + "/" + bucket + "/" + hex.EncodeToString(sum[:])
}

func (s *store) bucket(name string) (*bucket, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if b := s.buckets[name]; b != nil {
		return b, nil
	}
	return nil, errNoBucket
}

// bucketInfo is a bucket as ListBuckets shows it.
type bucketInfo struct {
	name    string
	created time.Time
}

func (s *store) listBuckets() []bucketInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]bucketInfo, 0, len(s.buckets))
	for _, b := range s.buckets {
		out = append(out, bucketInfo{b.name, b.created})
	}
	slices.SortFunc(out, func(a, b bucketInfo) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out
}

func (s *store) createBucket(name string) error {
	if !validBucket(name) {
		return errBadBucketName
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buckets[name] != nil {
		return errBucketExists
	}
	if err := s.root.Mkdir(bucketsDir+"/"+name, 0o700); err != nil {
		return err
	}
	s.buckets[name] = &bucket{name: name, created: s.now(), metas: map[string]meta{}}
	return nil
}

func (s *store) deleteBucket(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		return errNoBucket
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.keys) > 0 {
		return errBucketNotEmpty
	}
	if err := s.root.Remove(bucketsDir + "/" + name); err != nil {
		return err
	}
	b.gone = true
	delete(s.buckets, name)
	return nil
}

// validBucket says whether name is a bucket name; such a name is also a
// harmless file name.
func validBucket(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		edge := i == 0 || i == len(name)-1
		if !alnum && (edge || c != '-' && c != '.') {
			return false
		}
	}
	return true
}

// source is a body to be stored and what its sender promised about it.
type source struct {
	r io.Reader
	// size declared; negative if unknown.
	size     int64
	promised promised
	// trailer returns what came after the body; nil for none.
	trailer func() map[string]string
}

// write stores a body as a sealed draft; the caller commits or discards it.
func (s *store) write(src source, m meta) (*draft, meta, error) {
	d, err := s.blobs.draft()
	if err != nil {
		return nil, m, err
	}
	sums := newDigests(checksumHash(src.promised.checksum))
	if err := d.fill(src.r, sums); err != nil {
		d.discard()
		return nil, m, cut(err)
	}
	if err := s.accept(d, src, sums); err != nil {
		d.discard()
		return nil, m, err
	}
	m.Size, m.SHA256, m.Modified = d.size, sums.sha256Hex(), s.now()
	if m.ETag == "" {
		m.ETag = sums.etag()
	}
	if err := d.seal(m); err != nil {
		d.discard()
		return nil, m, err
	}
	return d, m, nil
}

// accept checks a body that has arrived against what was promised.
func (s *store) accept(d *draft, src source, sums *digests) error {
	if src.size >= 0 && d.size != src.size {
		return errIncompleteBody
	}
	var trailer map[string]string
	if src.trailer != nil {
		trailer = src.trailer()
	}
	return src.promised.check(sums, trailer)
}

// put stores an object. With onlyNew it fails if there is one already.
func (s *store) put(bucketName, key string, src source, attrs attributes, onlyNew bool) (meta, error) {
	b, err := s.bucket(bucketName)
	if err != nil {
		return meta{}, err
	}
	d, m, err := s.write(src, meta{Key: key, attributes: attrs})
	if err != nil {
		return meta{}, err
	}
	defer d.discard()
	return m, b.publish(d, m, onlyNew)
}

// publish makes a sealed draft the object of its key.
func (b *bucket) publish(d *draft, m meta, onlyNew bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, exists := b.metas[m.Key]
	switch {
	case b.gone:
		return errNoBucket
	case exists && onlyNew:
		return errPrecondition
	}
	if err := d.commit(objectPath(b.name, m.Key)); err != nil {
		return err
	}
	if !exists {
		i, _ := slices.BinarySearch(b.keys, m.Key)
		b.keys = slices.Insert(b.keys, i, m.Key)
	}
	b.metas[m.Key] = m
	return nil
}

// get opens an object; the caller closes the file.
func (s *store) get(bucketName, key string) (*os.File, meta, error) {
	b, err := s.bucket(bucketName)
	if err != nil {
		return nil, meta{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	m, ok := b.metas[key]
	if !ok {
		return nil, meta{}, errNoKey
	}
	f, err := s.root.Open(objectPath(bucketName, key))
	return f, m, err
}

// delete removes an object; deleting what is not there is no error.
func (s *store) delete(bucketName, key string) error {
	b, err := s.bucket(bucketName)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.metas[key]; !ok {
		return nil
	}
	if err := s.root.Remove(objectPath(bucketName, key)); err != nil {
		return err
	}
	if i, ok := slices.BinarySearch(b.keys, key); ok {
		b.keys = slices.Delete(b.keys, i, i+1)
	}
	delete(b.metas, key)
	return nil
}
