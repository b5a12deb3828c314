package objects

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

type listBucketsResult struct {
	XMLName xml.Name `xml:"ListAllMyBucketsResult"`
	Xmlns   string   `xml:"xmlns,attr"`
	Owner   owner
	Buckets struct{ Bucket []listedBucket }
}

type owner struct{ ID, DisplayName string }

type listedBucket struct{ Name, CreationDate string }

func (q *request) listBuckets() error {
	res := listBucketsResult{Xmlns: xmlNamespace, Owner: owner{"flix", "flix"}}
	for _, b := range q.s.store.listBuckets() {
		res.Buckets.Bucket = append(res.Buckets.Bucket, listedBucket{b.name, stamp(b.created)})
	}
	return q.answer(http.StatusOK, res)
}

func (q *request) createBucket() error {
	if err := q.s.store.createBucket(q.bucket); err != nil {
		return err
	}
	q.w.Header().Set("Location", "/"+q.bucket)
	q.w.WriteHeader(http.StatusOK)
	return nil
}

func (q *request) headBucket() error {
	if _, err := q.s.store.bucket(q.bucket); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusOK)
	return nil
}

func (q *request) deleteBucket() error {
	if err := q.s.store.deleteBucket(q.bucket); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

type locationResult struct {
	XMLName xml.Name `xml:"LocationConstraint"`
	Xmlns   string   `xml:"xmlns,attr"`
}

// bucketLocation answers with S3's empty form, which means us-east-1.
func (q *request) bucketLocation() error {
	if _, err := q.s.store.bucket(q.bucket); err != nil {
		return err
	}
	return q.answer(http.StatusOK, locationResult{Xmlns: xmlNamespace})
}

type listResult struct {
	XMLName                                   xml.Name `xml:"ListBucketResult"`
	Xmlns                                     string   `xml:"xmlns,attr"`
	Name, Prefix                              string
	Delimiter, EncodingType                   string `xml:",omitempty"`
	StartAfter, ContinuationToken             string `xml:",omitempty"`
	NextContinuationToken, Marker, NextMarker string `xml:",omitempty"`
	KeyCount                                  *int   `xml:",omitempty"`
	MaxKeys                                   int
	IsTruncated                               bool
	Contents                                  []listedObject
	CommonPrefixes                            []listedPrefix
}

type listedObject struct {
	Key, LastModified, ETag string
	Size                    int64
	StorageClass            string
	Owner                   *owner `xml:",omitempty"`
}

type listedPrefix struct{ Prefix string }

// count reads a parameter such as max-keys: at most a page.
func (q *request) count(name string) (int, error) {
	v := q.query.Get(name)
	if v == "" {
		return maxListKeys, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, errInvalidArgument.with(name + " is not a number.")
	}
	return min(n, maxListKeys), nil
}

// list runs a listing and renders what both versions share.
func (q *request) list(after string) (listResult, page, error) {
	max, err := q.count("max-keys")
	if err != nil {
		return listResult{}, page{}, err
	}
	l := listing{prefix: q.query.Get("prefix"), delimiter: q.query.Get("delimiter"), after: after, max: max}
	p, err := q.s.store.list(q.bucket, l)
	if err != nil {
		return listResult{}, page{}, err
	}
	enc := func(s string) string { return s }
	res := listResult{Xmlns: xmlNamespace, Name: q.bucket, MaxKeys: max, IsTruncated: p.more}
	if q.query.Get("encoding-type") == "url" {
		res.EncodingType = "url"
		enc = func(s string) string { return escape(s, true) }
	}
	res.Prefix, res.Delimiter = enc(l.prefix), enc(l.delimiter)
	var own *owner
	if q.query.Get("fetch-owner") == "true" {
		own = &owner{"flix", "flix"}
	}
	for _, m := range p.objects {
		res.Contents = append(res.Contents, listedObject{enc(m.Key), stamp(m.Modified), quote(m.ETag), m.Size, "STANDARD", own})
	}
	for _, c := range p.prefixes {
		res.CommonPrefixes = append(res.CommonPrefixes, listedPrefix{enc(c)})
	}
	return res, p, nil
}

func (q *request) listObjectsV2() error {
	if q.query.Get("list-type") != "2" {
		return errInvalidArgument.with("list-type is 2.")
	}
	after, token := q.query.Get("start-after"), q.query.Get("continuation-token")
	if token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return errInvalidArgument.with("The continuation token is not one of this server's.")
		}
		after = string(raw)
	}
	res, p, err := q.list(after)
	if err != nil {
		return err
	}
	n := len(p.objects) + len(p.prefixes)
	res.KeyCount, res.ContinuationToken, res.StartAfter = &n, token, q.query.Get("start-after")
	if p.more {
		res.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(p.last))
	}
	return q.answer(http.StatusOK, res)
}

func (q *request) listObjects() error {
	res, p, err := q.list(q.query.Get("marker"))
	if err != nil {
		return err
	}
	res.Marker = q.query.Get("marker")
	if p.more {
		res.NextMarker = p.last
	}
	return q.answer(http.StatusOK, res)
}

type deleteDoc struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []struct{ Key string } `xml:"Object"`
}

type deleteResult struct {
	XMLName xml.Name `xml:"DeleteResult"`
	Xmlns   string   `xml:"xmlns,attr"`
	Deleted []struct{ Key string }
	Error   []deleteError
}

type deleteError struct{ Key, Code, Message string }

func (q *request) deleteObjects() error {
	var doc deleteDoc
	if err := q.document(&doc); err != nil {
		return err
	}
	if len(doc.Objects) == 0 || len(doc.Objects) > maxListKeys {
		return errMalformedXML
	}
	res := deleteResult{Xmlns: xmlNamespace}
	for _, o := range doc.Objects {
		err := q.s.store.delete(q.bucket, o.Key)
		switch {
		case errors.Is(err, errNoBucket):
			return err
		case err != nil:
			f := asFault(err)
			q.s.tel.Log.Error("delete failed", "bucket", q.bucket, "key", strings.ToValidUTF8(o.Key, "?"), "error", err)
			res.Error = append(res.Error, deleteError{o.Key, f.code, f.msg})
		case !doc.Quiet:
			res.Deleted = append(res.Deleted, struct{ Key string }{o.Key})
		}
	}
	return q.answer(http.StatusOK, res)
}
