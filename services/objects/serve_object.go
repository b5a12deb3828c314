package objects

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// egressStep is how many bytes of one GET go out between two entries in the
// egress log: what a kill in the middle of a GET can hide at most.
const egressStep = 8 << 20

// kept are the plain headers stored with an object and sent back.
func kept() []string {
	return []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires"}
}

// attributesOf reads what a writer says about its object.
func attributesOf(h http.Header) attributes {
	a := attributes{ContentType: h.Get("Content-Type"), Headers: map[string]string{}, User: map[string]string{}}
	if a.ContentType == "" {
		a.ContentType = "application/octet-stream"
	}
	for _, name := range kept() {
		if v := h.Get(name); v != "" {
			a.Headers[name] = v
		}
	}
	// aws-chunked is the framing of the upload, not of the object.
	if enc := strings.Trim(strings.ReplaceAll(a.Headers["Content-Encoding"], "aws-chunked", ""), ", "); enc == "" {
		delete(a.Headers, "Content-Encoding")
	} else {
		a.Headers["Content-Encoding"] = enc
	}
	for name, v := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			a.User[name] = strings.Join(v, ",")
		}
	}
	return a
}

func (q *request) putObject() error {
	src, err := q.body()
	if err != nil {
		return err
	}
	onlyNew := q.r.Header.Get("If-None-Match") == "*"
	m, err := q.s.store.put(q.bucket, q.key, src, attributesOf(q.r.Header), onlyNew)
	if err != nil {
		return err
	}
	q.stored(m.ETag, src)
	return nil
}

// stored answers that a body has been stored, with its checksum if the client
// sent one.
func (q *request) stored(etag string, src source) {
	q.w.Header().Set("ETag", quote(etag))
	if src.promised.checksum != "" {
		q.echoChecksum(src)
	}
	q.w.WriteHeader(http.StatusOK)
}

// echoChecksum sends back the checksum that was verified.
func (q *request) echoChecksum(src source) {
	v := src.promised.checksumValue
	if v == "" && src.trailer != nil {
		v = src.trailer()[src.promised.checksum]
	}
	q.w.Header().Set(src.promised.checksum, v)
}

func quote(etag string) string { return `"` + etag + `"` }

func unquote(etag string) string { return strings.Trim(strings.TrimSpace(etag), `"`) }

// getObject answers GET and HEAD.
func (q *request) getObject() error {
	f, m, err := q.s.store.get(q.bucket, q.key)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	q.describe(m)
	if done, err := q.conditions(m); done || err != nil {
		return err
	}
	part, status := span{0, m.Size}, http.StatusOK
	h := q.w.Header()
	if rng := q.r.Header.Get("Range"); rng != "" && q.ifRange(m) {
		s, ok, err := parseRange(rng, m.Size)
		if err != nil {
			h.Set("Content-Range", "bytes */"+strconv.FormatInt(m.Size, 10))
			return err
		}
		if ok {
			part, status = s, http.StatusPartialContent
			h.Set("Content-Range", "bytes "+strconv.FormatInt(s.offset, 10)+"-"+strconv.FormatInt(s.offset+s.length-1, 10)+"/"+strconv.FormatInt(m.Size, 10))
		}
	}
	h.Set("Content-Length", strconv.FormatInt(part.length, 10))
	q.w.WriteHeader(status)
	if q.r.Method == http.MethodHead {
		return nil
	}
	return q.send(f, part, status)
}

// send passes the file on by the kernel and logs what was really sent. A
// client that goes away is no failure of the server.
func (q *request) send(f *os.File, part span, status int) error {
	if _, err := f.Seek(part.offset, io.SeekStart); err != nil {
		return err
	}
	w := bare(q.w)
	for left := part.length; left > 0; {
		n, err := io.CopyN(w, f, min(left, egressStep))
		left -= n
		if lerr := q.s.egress.add(q.bucket, q.key, status, n); lerr != nil {
			q.s.tel.Log.Error("egress not logged: the count will be short after a restart", "error", lerr)
		}
		if err != nil {
			// The declared length is not met, so net/http closes the
			// connection and the client sees that the body is short.
			q.s.tel.Log.Debug("get aborted", "bucket", q.bucket, "key", q.key, "error", err)
			return nil
		}
	}
	return nil
}

// describe sets the headers that tell about an object.
func (q *request) describe(m meta) {
	h := q.w.Header()
	h.Set("ETag", quote(m.ETag))
	h.Set("Last-Modified", m.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", m.ContentType)
	for k, v := range m.Headers {
		h.Set(k, v)
	}
	for k, v := range m.User {
		h.Set(k, v)
	}
	if strings.EqualFold(q.r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") && q.r.Header.Get("Range") == "" {
		if sum, err := hex.DecodeString(m.SHA256); err == nil {
			h.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum))
			h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		}
	}
	for name, values := range q.query {
		if header, ok := strings.CutPrefix(name, "response-"); ok && len(values) > 0 {
			h.Set(header, values[0])
		}
	}
}

// conditions evaluates the preconditions in the order of RFC 9110, section
// 13.2.2. done means that the answer has been sent.
func (q *request) conditions(m meta) (done bool, err error) {
	h := q.r.Header
	if v := h.Get("If-Match"); v != "" {
		if !matches(v, m.ETag) {
			return false, errPrecondition
		}
	} else if t, err := http.ParseTime(h.Get("If-Unmodified-Since")); err == nil && m.Modified.Truncate(time.Second).After(t) {
		return false, errPrecondition
	}
	notModified := false
	if v := h.Get("If-None-Match"); v != "" {
		notModified = matches(v, m.ETag)
	} else if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil {
		notModified = !m.Modified.Truncate(time.Second).After(t)
	}
	if notModified {
		q.w.WriteHeader(http.StatusNotModified)
	}
	return notModified, nil
}

// matches says whether an entity tag is in a list of them.
func matches(list, etag string) bool {
	for v := range strings.SplitSeq(list, ",") {
		v = strings.TrimPrefix(strings.TrimSpace(v), "W/")
		if v == "*" || unquote(v) == etag {
			return true
		}
	}
	return false
}

// ifRange says whether a Range header counts: If-Range must name the object
// as it is.
func (q *request) ifRange(m meta) bool {
	v := q.r.Header.Get("If-Range")
	if v == "" {
		return true
	}
	if t, err := http.ParseTime(v); err == nil {
		return m.Modified.Truncate(time.Second).Equal(t)
	}
	return v == quote(m.ETag)
}

func (q *request) deleteObject() error {
	if err := q.s.store.delete(q.bucket, q.key); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// copySource opens the object that x-amz-copy-source names.
func (q *request) copySource() (*os.File, meta, error) {
	raw, _, _ := strings.Cut(q.r.Header.Get("X-Amz-Copy-Source"), "?")
	name, err := url.PathUnescape(raw)
	if err != nil {
		return nil, meta{}, errInvalidArgument.with("x-amz-copy-source is malformed.")
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !ok || key == "" {
		return nil, meta{}, errInvalidArgument.with("x-amz-copy-source is malformed.")
	}
	f, m, err := q.s.store.get(bucket, key)
	if err != nil {
		return nil, meta{}, err
	}
	if v := q.r.Header.Get("X-Amz-Copy-Source-If-Match"); v != "" && !matches(v, m.ETag) {
		_ = f.Close() // opened for reading
		return nil, meta{}, errPrecondition
	}
	return f, m, nil
}

func (q *request) copyObject() error {
	f, m, err := q.copySource()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	attrs := m.attributes
	if strings.EqualFold(q.r.Header.Get("X-Amz-Metadata-Directive"), "REPLACE") {
		attrs = attributesOf(q.r.Header)
	}
	n, err := q.s.store.put(q.bucket, q.key, source{r: io.LimitReader(f, m.Size), size: m.Size}, attrs, false)
	if err != nil {
		return err
	}
	return q.answer(http.StatusOK, copyResult{XMLName: xml.Name{Local: "CopyObjectResult"}, ETag: quote(n.ETag), LastModified: stamp(n.Modified)})
}

// stamp is a time as S3's XML has it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

type copyResult struct {
	XMLName      xml.Name
	ETag         string
	LastModified string
}
