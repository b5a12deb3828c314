package objects

import (
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
)

type initiateResult struct {
	XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
	Xmlns                 string   `xml:"xmlns,attr"`
	Bucket, Key, UploadId string   //nolint:revive // S3's element name
}

func (q *request) createUpload() error {
	id, err := q.s.store.createUpload(q.bucket, q.key, attributesOf(q.r.Header))
	if err != nil {
		return err
	}
	return q.answer(http.StatusOK, initiateResult{Xmlns: xmlNamespace, Bucket: q.bucket, Key: q.key, UploadId: id})
}

// part returns the upload id and part number of the query.
func (q *request) part() (string, int, error) {
	n, err := strconv.Atoi(q.query.Get("partNumber"))
	if err != nil {
		return "", 0, errPartNumber
	}
	return q.query.Get("uploadId"), n, nil
}

func (q *request) uploadPart() error {
	id, n, err := q.part()
	if err != nil {
		return err
	}
	src, err := q.body()
	if err != nil {
		return err
	}
	m, err := q.s.store.putPart(q.bucket, q.key, id, n, src)
	if err != nil {
		return err
	}
	q.stored(m.ETag, src)
	return nil
}

func (q *request) uploadPartCopy() error {
	id, n, err := q.part()
	if err != nil {
		return err
	}
	f, m, err := q.copySource()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	from := span{0, m.Size}
	if rng := q.r.Header.Get("X-Amz-Copy-Source-Range"); rng != "" {
		s, ok, err := parseRange(rng, m.Size)
		if err != nil {
			return err
		}
		if !ok {
			return errInvalidArgument.with("x-amz-copy-source-range is malformed.")
		}
		from = s
	}
	p, err := q.s.store.putPart(q.bucket, q.key, id, n, source{r: io.NewSectionReader(f, from.offset, from.length), size: from.length})
	if err != nil {
		return err
	}
	return q.answer(http.StatusOK, copyResult{XMLName: xml.Name{Local: "CopyPartResult"}, ETag: quote(p.ETag), LastModified: stamp(p.Modified)})
}

type completeDoc struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		PartNumber int
		ETag       string
	} `xml:"Part"`
}

type completeResult struct {
	XMLName                     xml.Name `xml:"CompleteMultipartUploadResult"`
	Xmlns                       string   `xml:"xmlns,attr"`
	Location, Bucket, Key, ETag string
}

func (q *request) completeUpload() error {
	var doc completeDoc
	// The checksum headers of this request speak of the object, not of the
	// document: they are taken away before the document is checked.
	whole, err := q.objectChecksum()
	if err != nil {
		return err
	}
	if err := q.document(&doc); err != nil {
		return err
	}
	if len(doc.Parts) > maxPartNumber {
		return errMalformedXML
	}
	names := make([]named, len(doc.Parts))
	for i, p := range doc.Parts {
		names[i] = named{p.PartNumber, unquote(p.ETag)}
	}
	m, err := q.s.store.completeUpload(q.bucket, q.key, q.query.Get("uploadId"), names, whole)
	if err != nil {
		return err
	}
	return q.answer(http.StatusOK, completeResult{Xmlns: xmlNamespace, Location: "http://" + q.r.Host + "/" + q.bucket + "/" + escape(q.key, true), Bucket: q.bucket, Key: q.key, ETag: quote(m.ETag)})
}

// objectChecksum takes the checksum of the finished object out of the headers.
// A checksum of the parts' checksums is passed over: each part was verified
// when it arrived.
func (q *request) objectChecksum() (promised, error) {
	p, err := promises(q.r.Header, "")
	if err != nil {
		return promised{}, err
	}
	p.contentMD5 = nil
	composite := q.r.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT"
	for name := range q.r.Header {
		if checksumHash(name) != nil {
			q.r.Header.Del(name)
		}
	}
	if composite {
		return promised{}, nil
	}
	return p, nil
}

func (q *request) abortUpload() error {
	if err := q.s.store.abortUpload(q.bucket, q.key, q.query.Get("uploadId")); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

type listPartsResult struct {
	XMLName                                          xml.Name `xml:"ListPartsResult"`
	Xmlns                                            string   `xml:"xmlns,attr"`
	Bucket, Key, UploadId                            string   //nolint:revive // S3's element name
	PartNumberMarker, NextPartNumberMarker, MaxParts int
	IsTruncated                                      bool
	Part                                             []listedPart
}

type listedPart struct {
	PartNumber   int
	LastModified string
	ETag         string
	Size         int64
}

func (q *request) listParts() error {
	id := q.query.Get("uploadId")
	parts, err := q.s.store.parts(q.bucket, q.key, id)
	if err != nil {
		return err
	}
	max, err := q.count("max-parts")
	if err != nil {
		return err
	}
	res := listPartsResult{Xmlns: xmlNamespace, Bucket: q.bucket, Key: q.key, UploadId: id, MaxParts: max}
	if v := q.query.Get("part-number-marker"); v != "" {
		if res.PartNumberMarker, err = strconv.Atoi(v); err != nil {
			return errInvalidArgument.with("part-number-marker is not a number.")
		}
	}
	parts = slices.DeleteFunc(parts, func(p part) bool { return p.number <= res.PartNumberMarker })
	if len(parts) > max {
		parts, res.IsTruncated = parts[:max], true
	}
	for _, p := range parts {
		res.Part = append(res.Part, listedPart{p.number, stamp(p.Modified), quote(p.ETag), p.Size})
		res.NextPartNumberMarker = p.number
	}
	return q.answer(http.StatusOK, res)
}
