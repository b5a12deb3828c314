package objects

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// maxObject is the most one PUT or part may carry (S3's 5 GiB).
	maxObject = 5 << 30
	// maxDoc bounds an XML body: 10000 parts of some 100 bytes each.
	maxDoc = 2 << 20
	maxKey = 1024

	xmlNamespace = "http://s3.amazonaws.com/doc/2006-03-01/"
)

// request is one request on its way.
type request struct {
	s           *Server
	w           http.ResponseWriter
	r           *http.Request
	grant       granted
	op          string
	bucket, key string
	query       url.Values
}

// operation is what a request may ask for.
type operation struct {
	name   string
	method string
	object bool   // on an object, else on a bucket
	sub    string // query parameter that selects it; "" for the plain one
	copies bool   // selected by x-amz-copy-source
	serve  func(*request) error
}

// operations lists all that the server offers, the more specific first.
func operations() []operation {
	return []operation{
		{"UploadPartCopy", http.MethodPut, true, "uploadId", true, (*request).uploadPartCopy},
		{"UploadPart", http.MethodPut, true, "uploadId", false, (*request).uploadPart},
		{"CopyObject", http.MethodPut, true, "", true, (*request).copyObject},
		{"PutObject", http.MethodPut, true, "", false, (*request).putObject},
		{"ListParts", http.MethodGet, true, "uploadId", false, (*request).listParts},
		{"GetObject", http.MethodGet, true, "", false, (*request).getObject},
		{"HeadObject", http.MethodHead, true, "", false, (*request).getObject},
		{"AbortMultipartUpload", http.MethodDelete, true, "uploadId", false, (*request).abortUpload},
		{"DeleteObject", http.MethodDelete, true, "", false, (*request).deleteObject},
		{"CreateMultipartUpload", http.MethodPost, true, "uploads", false, (*request).createUpload},
		{"CompleteMultipartUpload", http.MethodPost, true, "uploadId", false, (*request).completeUpload},
		{"CreateBucket", http.MethodPut, false, "", false, (*request).createBucket},
		{"HeadBucket", http.MethodHead, false, "", false, (*request).headBucket},
		{"GetBucketLocation", http.MethodGet, false, "location", false, (*request).bucketLocation},
		{"ListObjectsV2", http.MethodGet, false, "list-type", false, (*request).listObjectsV2},
		{"ListObjects", http.MethodGet, false, "", false, (*request).listObjects},
		{"DeleteBucket", http.MethodDelete, false, "", false, (*request).deleteBucket},
		{"DeleteObjects", http.MethodPost, false, "delete", false, (*request).deleteObjects},
	}
}

// foreign are query parameters that name functions this server lacks. They
// must not fall through to the plain operation of their method: a PUT with
// "?acl" would overwrite the object.
func foreign(q url.Values) bool {
	for name := range q {
		switch name {
		case "uploadId", "uploads", "partNumber", "list-type", "location", "delete", "prefix", "delimiter", "marker",
			"max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner", "max-parts", "part-number-marker", "x-id":
		default:
			if !strings.HasPrefix(name, "X-Amz-") && !strings.HasPrefix(name, "response-") {
				return true
			}
		}
	}
	return false
}

// serve authenticates, routes and answers.
func (q *request) serve() error {
	q.op = "Unknown"
	var err error
	if q.grant, err = q.s.verifier.verify(q.r); err != nil {
		return err
	}
	if q.query, err = url.ParseQuery(q.r.URL.RawQuery); err != nil {
		return errInvalidRequest.with("The query is malformed.")
	}
	q.bucket, q.key, _ = strings.Cut(strings.TrimPrefix(q.r.URL.Path, "/"), "/")
	if q.bucket == "" {
		if q.r.Method != http.MethodGet {
			return errMethodNotAllowed
		}
		q.op = "ListBuckets"
		return q.listBuckets()
	}
	if len(q.key) > maxKey {
		return errKeyTooLong
	}
	if !utf8.ValidString(q.key) {
		return errInvalidArgument.with("A key is UTF-8 text.")
	}
	op, err := q.route()
	if err != nil {
		return err
	}
	q.op = op.name
	return op.serve(q)
}

func (q *request) route() (operation, error) {
	if foreign(q.query) {
		return operation{}, errNotImplemented
	}
	if op, ok := operationOf(q.r, q.key, q.query); ok {
		return op, nil
	}
	return operation{}, errMethodNotAllowed
}

// operationOf finds what a request on a bucket, or on a key of it, asks for.
func operationOf(r *http.Request, key string, query url.Values) (operation, bool) {
	copies := r.Header.Get("X-Amz-Copy-Source") != ""
	for _, op := range operations() {
		if op.method == r.Method && op.object == (key != "") && (op.sub == "" || query.Has(op.sub)) && (!op.copies || copies) {
			return op, true
		}
	}
	return operation{}, false
}

// fail answers with an error, unless the answer has begun already.
func (q *request) fail(err error) {
	f := asFault(err)
	if f.status >= http.StatusInternalServerError {
		q.s.tel.Log.Error("s3 request failed", "op", q.op, "bucket", q.bucket, "key", q.key, "error", err)
	}
	if c, ok := q.w.(*codeWriter); ok && c.code != 0 {
		return
	}
	// What is left of the body is not worth reading: its framing may be broken.
	q.w.Header().Set("Connection", "close")
	if q.r.Method == http.MethodHead {
		q.w.WriteHeader(f.status)
		return
	}
	_ = q.answer(f.status, errorBody{Code: f.code, Message: f.msg, Resource: q.r.URL.Path, RequestID: telemetry.TraceID(q.r.Context())})
}

// answer sends an XML document.
func (q *request) answer(status int, doc any) error {
	body, err := xml.Marshal(doc)
	if err != nil {
		return err
	}
	h := q.w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(xml.Header)+len(body)))
	q.w.WriteHeader(status)
	_, _ = q.w.Write(append([]byte(xml.Header), body...)) // the client is gone: nothing to tell it
	return nil
}

// body is the request's body as a source of bytes to store.
func (q *request) body() (source, error) {
	p, err := promises(q.r.Header, q.grant.payload)
	if err != nil {
		return source{}, err
	}
	src := source{r: q.r.Body, size: q.r.ContentLength, promised: p}
	switch q.grant.payload {
	case payloadStream, payloadStreamTrailer, payloadUnsignedTrailer:
		src.size, err = strconv.ParseInt(q.r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || src.size < 0 {
			return source{}, errMissingLength
		}
		c := newChunkReader(q.r.Body, q.chunkSigner(), q.grant.payload != payloadStream, src.size)
		src.r, src.trailer = c, c.Trailer
	case payloadUnsigned:
	default:
		if p.contentSHA == "" {
			return source{}, errInvalidRequest.with("The x-amz-content-sha256 header is not valid.")
		}
	}
	switch {
	case src.size < 0:
		return source{}, errMissingLength
	case src.size > maxObject:
		return source{}, errTooLarge
	}
	return src, nil
}

func (q *request) chunkSigner() *chunkSigner {
	if q.grant.payload == payloadUnsignedTrailer {
		return nil
	}
	return &chunkSigner{key: q.grant.key, amzDate: q.grant.amzDate, scope: q.grant.scope.String(), prev: q.grant.signature}
}

// document reads a small XML body into v.
func (q *request) document(v any) error {
	src, err := q.body()
	if err != nil {
		return err
	}
	if src.size > maxDoc {
		return errTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(src.r, maxDoc+1))
	if err != nil {
		return cut(err)
	}
	sums := newDigests(checksumHash(src.promised.checksum))
	_, _ = sums.Write(data) // never fails
	var trailer map[string]string
	if src.trailer != nil {
		trailer = src.trailer()
	}
	if err := src.promised.check(sums, trailer); err != nil {
		return err
	}
	if err := xml.Unmarshal(data, v); err != nil {
		return errMalformedXML
	}
	return nil
}
