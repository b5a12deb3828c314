package objects

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strings"
)

// crc64NVME is the reversed polynomial of CRC-64/NVME.
const crc64NVME = 0x9a6c9329ac4bc9b5

// checksumHash returns the hash behind a checksum header, nil if the name is
// not one of S3's.
func checksumHash(header string) hash.Hash {
	switch strings.ToLower(header) {
	case "x-amz-checksum-crc32":
		return crc32.NewIEEE()
	case "x-amz-checksum-crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "x-amz-checksum-crc64nvme":
		return crc64.New(crc64.MakeTable(crc64NVME))
	case "x-amz-checksum-sha1":
		return sha1.New()
	case "x-amz-checksum-sha256":
		return sha256.New()
	}
	return nil
}

// digests are computed over a body while it is stored.
type digests struct {
	md5, sha256 hash.Hash
	// extra is the checksum the sender declared; nil for none.
	extra hash.Hash
}

func newDigests(extra hash.Hash) *digests {
	return &digests{md5: md5.New(), sha256: sha256.New(), extra: extra}
}

// Write adds to every digest; it never fails.
func (d *digests) Write(p []byte) (int, error) {
	d.md5.Write(p)
	d.sha256.Write(p)
	if d.extra != nil {
		d.extra.Write(p)
	}
	return len(p), nil
}

func (d *digests) etag() string      { return hex.EncodeToString(d.md5.Sum(nil)) }
func (d *digests) sha256Hex() string { return hex.EncodeToString(d.sha256.Sum(nil)) }

// promised is what a sender said about its body beforehand.
type promised struct {
	contentMD5 []byte // nil: not said
	contentSHA string // hexadecimal, "" if not said
	// checksum is the name of the x-amz-checksum- header or trailer, lower
	// case; checksumValue is its value if it came as a header.
	checksum, checksumValue string
}

// promises reads what the headers say about the body.
func promises(h http.Header, payload string) (promised, error) {
	var p promised
	if v := h.Get("Content-Md5"); v != "" {
		sum, err := base64.StdEncoding.DecodeString(v)
		if err != nil || len(sum) != md5.Size {
			return p, errInvalidDigest
		}
		p.contentMD5 = sum
	}
	if isHexSHA256(payload) {
		p.contentSHA = strings.ToLower(payload)
	}
	for name, values := range h {
		if l := strings.ToLower(name); strings.HasPrefix(l, "x-amz-checksum-") && checksumHash(l) != nil {
			p.checksum, p.checksumValue = l, values[0]
		}
	}
	if t := strings.ToLower(h.Get("X-Amz-Trailer")); t != "" {
		if checksumHash(t) == nil {
			return p, errInvalidRequest.with("The declared trailer is not a known checksum.")
		}
		p.checksum, p.checksumValue = t, ""
	}
	return p, nil
}

// check compares the promises with what arrived. The trailer is nil if the
// body had none.
func (p promised) check(d *digests, trailer map[string]string) error {
	if p.contentMD5 != nil && string(d.md5.Sum(nil)) != string(p.contentMD5) {
		return errBadDigest
	}
	if p.contentSHA != "" && d.sha256Hex() != p.contentSHA {
		return errContentSHA
	}
	if p.checksum == "" {
		return nil
	}
	value := p.checksumValue
	if value == "" {
		value = trailer[p.checksum]
	}
	if value == "" {
		return errTrailerMalformed
	}
	if base64.StdEncoding.EncodeToString(d.extra.Sum(nil)) != value {
		return errBadChecksum
	}
	return nil
}
