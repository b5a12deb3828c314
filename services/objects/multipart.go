package objects

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxPartNumber = 10000
	// minPartSize of every part but the last (S3's).
	minPartSize = 5 << 20
	// uploadLife is how long an upload nobody completed survives restarts.
	uploadLife = 24 * time.Hour

	uploadDoc  = "upload.json"
	partPrefix = "part-"
)

// upload is a multipart upload that was begun.
type upload struct {
	Bucket  string    `json:"bucket"`
	Key     string    `json:"key"`
	Started time.Time `json:"started"`
	attributes
}

// part is one uploaded part.
type part struct {
	number int
	meta
}

// createUpload begins a multipart upload and returns its id.
func (s *store) createUpload(bucketName, key string, attrs attributes) (string, error) {
	if _, err := s.bucket(bucketName); err != nil {
		return "", err
	}
	id := rand.Text()
	doc, err := json.Marshal(upload{Bucket: bucketName, Key: key, Started: s.now(), attributes: attrs})
	if err != nil {
		return "", err
	}
	// Made under its temporary name and renamed: an upload has its document
	// from the first moment it can be seen.
	tmp := tempDir + "/" + id
	if err := s.root.Mkdir(tmp, 0o700); err != nil {
		return "", err
	}
	if err := s.root.WriteFile(tmp+"/"+uploadDoc, doc, 0o600); err != nil {
		return "", err
	}
	return id, s.root.Rename(tmp, uploadsDir+"/"+id)
}

// upload returns an upload if it belongs to that bucket and key.
func (s *store) upload(bucketName, key, id string) (upload, error) {
	if id == "" || strings.ContainsAny(id, "/\\.") {
		return upload{}, errNoUpload
	}
	doc, err := s.root.ReadFile(uploadsDir + "/" + id + "/" + uploadDoc)
	if errors.Is(err, fs.ErrNotExist) {
		return upload{}, errNoUpload
	}
	if err != nil {
		return upload{}, err
	}
	var u upload
	if err := json.Unmarshal(doc, &u); err != nil {
		return upload{}, err
	}
	if u.Bucket != bucketName || u.Key != key {
		return upload{}, errNoUpload
	}
	return u, nil
}

func partPath(id string, number int) string {
	return fmt.Sprintf("%s/%s/%s%05d", uploadsDir, id, partPrefix, number)
}

// putPart stores one part; a part sent twice replaces the first.
func (s *store) putPart(bucketName, key, id string, number int, src source) (meta, error) {
	if number < 1 || number > maxPartNumber {
		return meta{}, errPartNumber
	}
	if _, err := s.upload(bucketName, key, id); err != nil {
		return meta{}, err
	}
	d, m, err := s.write(src, meta{})
	if err != nil {
		return meta{}, err
	}
	defer d.discard()
	if err := d.commit(partPath(id, number)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return meta{}, errNoUpload // aborted meanwhile
		}
		return meta{}, err
	}
	return m, nil
}

// parts lists what has been uploaded, by number.
func (s *store) parts(bucketName, key, id string) ([]part, error) {
	if _, err := s.upload(bucketName, key, id); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(s.root.FS(), uploadsDir+"/"+id)
	if err != nil {
		return nil, err
	}
	var out []part
	for _, e := range entries {
		n, err := strconv.Atoi(strings.TrimPrefix(e.Name(), partPrefix))
		if err != nil {
			continue // the upload's document
		}
		m, err := s.blobs.stat(uploadsDir + "/" + id + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		out = append(out, part{n, m})
	}
	return out, nil
}

// named is a part as CompleteMultipartUpload names it.
type named struct {
	number int
	etag   string
}

// completeUpload joins the named parts into the object, which must keep what
// was promised about it.
func (s *store) completeUpload(bucketName, key, id string, names []named, whole promised) (meta, error) {
	u, err := s.upload(bucketName, key, id)
	if err != nil {
		return meta{}, err
	}
	b, err := s.bucket(bucketName)
	if err != nil {
		return meta{}, err
	}
	files, etag, err := s.openParts(id, names)
	defer func() {
		for _, f := range files {
			_ = f.file.Close() // opened for reading
		}
	}()
	if err != nil {
		return meta{}, err
	}
	readers := make([]io.Reader, len(files))
	var size int64
	for i, f := range files {
		readers[i] = io.NewSectionReader(f.file, 0, f.size)
		size += f.size
	}
	d, m, err := s.write(source{r: io.MultiReader(readers...), size: size, promised: whole}, meta{Key: key, ETag: etag, attributes: u.attributes})
	if err != nil {
		return meta{}, err
	}
	defer d.discard()
	if err := b.publish(d, m, false); err != nil {
		return meta{}, err
	}
	return m, s.root.RemoveAll(uploadsDir + "/" + id)
}

// partFile is a part opened for joining.
type partFile struct {
	file *os.File
	size int64
}

// openParts opens and checks the named parts and computes the joint entity
// tag: the MD5 of the parts' MD5s and their number, as S3 has it. The caller
// closes what is returned, also beside an error.
func (s *store) openParts(id string, names []named) ([]partFile, string, error) {
	if len(names) == 0 {
		return nil, "", errMalformedXML
	}
	if !slices.IsSortedFunc(names, func(a, b named) int { return a.number - b.number }) {
		return nil, "", errPartOrder
	}
	var files []partFile
	joint := md5.New()
	for i, n := range names {
		if i > 0 && names[i-1].number == n.number {
			return files, "", errPartOrder
		}
		f, m, err := s.blobs.open(partPath(id, n.number))
		if errors.Is(err, fs.ErrNotExist) {
			return files, "", errInvalidPart
		}
		if err != nil {
			return files, "", err
		}
		files = append(files, partFile{f, m.Size})
		if m.ETag != n.etag {
			return files, "", errInvalidPart
		}
		if i < len(names)-1 && m.Size < minPartSize {
			return files, "", errPartTooSmall
		}
		sum, err := hex.DecodeString(m.ETag)
		if err != nil {
			return files, "", err
		}
		joint.Write(sum)
	}
	return files, fmt.Sprintf("%x-%d", joint.Sum(nil), len(names)), nil
}

// abortUpload drops an upload and its parts.
func (s *store) abortUpload(bucketName, key, id string) error {
	if _, err := s.upload(bucketName, key, id); err != nil {
		return err
	}
	return s.root.RemoveAll(uploadsDir + "/" + id)
}

// sweepUploads drops uploads that nobody completed for a day.
func (s *store) sweepUploads() error {
	entries, err := fs.ReadDir(s.root.FS(), uploadsDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if s.now().Sub(info.ModTime()) < uploadLife {
			continue
		}
		if err := s.root.RemoveAll(path.Join(uploadsDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
