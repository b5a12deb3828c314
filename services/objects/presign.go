package objects

import (
	"strconv"
	"time"
)

// presigned is what goes into a signed URL.
type presigned struct {
	host, bucket, key    string
	accessKey, secretKey string
	ttl                  time.Duration
	at                   time.Time
}

// presign builds the URL of a GET with its signature in the query
// ("Authenticating Requests: Using Query Parameters" of the S3 API reference).
func presign(p presigned) string {
	amzDate := p.at.UTC().Format(amzTimeFormat)
	sc := scope{date: amzDate[:8], region: signRegion, service: signService}
	query := "X-Amz-Algorithm=" + signAlgorithm +
		"&X-Amz-Credential=" + escape(p.accessKey+"/"+sc.String(), false) +
		"&X-Amz-Date=" + amzDate +
		"&X-Amz-Expires=" + strconv.FormatInt(int64(p.ttl/time.Second), 10) +
		"&X-Amz-SignedHeaders=host"
	path := "/" + p.bucket + "/" + p.key
	canonical := canonicalRequest("GET", path, query, []string{"host"}, func(string) string { return p.host }, payloadUnsigned)
	sig := signature(signingKey(p.secretKey, sc), amzDate, sc, canonical)
	return "http://" + p.host + escape(path, true) + "?" + query + "&X-Amz-Signature=" + sig
}
