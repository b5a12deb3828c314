package objects

import (
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxSkew is how far a request's time may be from the server's (S3's).
	maxSkew = 15 * time.Minute
	// maxPresign is the longest life of a signed URL (S3's).
	maxPresign = 7 * 24 * time.Hour
	// maxSignedHeaders bounds the list a client may send.
	maxSignedHeaders = 64
)

// authorization is what a request claims about its signature.
type authorization struct {
	accessKey string
	scope     scope
	signed    []string
	signature string
	amzDate   string
	// expires is set for a presigned URL.
	expires time.Duration
}

// granted is what a verified request may go on with.
type granted struct {
	authorization
	// payload is the value of x-amz-content-sha256.
	payload string
	// key signs the chunks of a streamed body.
	key []byte
}

// parseAuthorization reads the value of an Authorization header.
func parseAuthorization(h string) (authorization, error) {
	rest, ok := strings.CutPrefix(h, signAlgorithm)
	if !ok || rest == "" || rest[0] != ' ' {
		return authorization{}, errMalformedAuth.with("Only " + signAlgorithm + " is supported.")
	}
	var a authorization
	seen := map[string]bool{}
	for field := range strings.SplitSeq(rest, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(field), "=")
		if !ok || seen[k] {
			return authorization{}, errMalformedAuth
		}
		seen[k] = true
		var err error
		switch k {
		case "Credential":
			a.accessKey, a.scope, err = parseCredential(v)
		case "SignedHeaders":
			a.signed, err = parseSignedHeaders(v)
		case "Signature":
			a.signature = v
		default:
			err = errMalformedAuth
		}
		if err != nil {
			return authorization{}, err
		}
	}
	if a.accessKey == "" || a.signed == nil || !isHexSHA256(a.signature) {
		return authorization{}, errMalformedAuth
	}
	return a, nil
}

// parseCredential reads "KEY/DATE/REGION/SERVICE/aws4_request".
func parseCredential(v string) (string, scope, error) {
	p := strings.Split(v, "/")
	if len(p) != 5 || p[0] == "" || len(p[1]) != 8 || p[2] == "" || p[3] != signService || p[4] != signTerminator {
		return "", scope{}, errMalformedAuth.with("The credential is malformed.")
	}
	return p[0], scope{date: p[1], region: p[2], service: p[3]}, nil
}

// parseSignedHeaders reads "a;b;c": sorted, lower case, with host among them.
func parseSignedHeaders(v string) ([]string, error) {
	names := strings.Split(v, ";")
	if len(names) > maxSignedHeaders || !slices.Contains(names, "host") {
		return nil, errMalformedAuth.with("The signed headers are too many or lack host.")
	}
	if !slices.IsSorted(names) || strings.ToLower(v) != v || slices.Contains(names, "") {
		return nil, errMalformedAuth.with("The signed headers are not sorted and in lower case.")
	}
	return names, nil
}

// parsePresigned reads the signature of a URL.
func parsePresigned(q url.Values) (authorization, error) {
	if q.Get("X-Amz-Algorithm") != signAlgorithm {
		return authorization{}, errMalformedAuth.with("Only " + signAlgorithm + " is supported.")
	}
	var a authorization
	var err error
	if a.accessKey, a.scope, err = parseCredential(q.Get("X-Amz-Credential")); err != nil {
		return authorization{}, err
	}
	if a.signed, err = parseSignedHeaders(q.Get("X-Amz-SignedHeaders")); err != nil {
		return authorization{}, err
	}
	secs, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 64)
	if err != nil || secs < 1 || secs > int64(maxPresign/time.Second) {
		return authorization{}, errMalformedAuth.with("X-Amz-Expires lies between 1 and 604800 seconds.")
	}
	a.expires = time.Duration(secs) * time.Second
	a.amzDate, a.signature = q.Get("X-Amz-Date"), q.Get("X-Amz-Signature")
	if !isHexSHA256(a.signature) {
		return authorization{}, errMalformedAuth
	}
	return a, nil
}

func isHexSHA256(s string) bool {
	if len(s) != 64 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// verifier checks requests against one key pair.
type verifier struct {
	accessKey, secretKey string
	now                  func() time.Time
}

// verify returns what the request's signature grants, or a fault.
func (v verifier) verify(r *http.Request) (granted, error) {
	a, err := claimed(r)
	if err != nil {
		return granted{}, err
	}
	if subtle.ConstantTimeCompare([]byte(a.accessKey), []byte(v.accessKey)) != 1 {
		return granted{}, errBadAccessKey
	}
	if err := v.checkTime(a); err != nil {
		return granted{}, err
	}
	if !signsAmzHeaders(r, a.signed) {
		return granted{}, errAccessDenied.with("Every x-amz- header must be signed.")
	}
	g := granted{authorization: a, payload: r.Header.Get("X-Amz-Content-Sha256"), key: signingKey(v.secretKey, a.scope)}
	if g.payload == "" {
		if a.expires == 0 {
			return granted{}, errInvalidRequest.with("The x-amz-content-sha256 header is missing.")
		}
		g.payload = payloadUnsigned
	}
	want := signature(g.key, a.amzDate, a.scope, canonicalRequest(r.Method, r.URL.Path, r.URL.RawQuery, a.signed, headerOf(r), g.payload))
	if subtle.ConstantTimeCompare([]byte(want), []byte(a.signature)) != 1 {
		return granted{}, errBadSignature
	}
	return g, nil
}

// claimed reads the signature from the header or the query.
func claimed(r *http.Request) (authorization, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		a, err := parseAuthorization(h)
		a.amzDate = r.Header.Get("X-Amz-Date")
		return a, err
	}
	if q := r.URL.Query(); q.Has("X-Amz-Signature") {
		return parsePresigned(q)
	}
	return authorization{}, errAccessDenied
}

func (v verifier) checkTime(a authorization) error {
	t, err := time.Parse(amzTimeFormat, a.amzDate)
	if err != nil {
		return errAccessDenied.with("The request carries no valid x-amz-date.")
	}
	if t.Format("20060102") != a.scope.date {
		return errMalformedAuth.with("The credential's date differs from the request's.")
	}
	now := v.now()
	switch {
	case t.After(now.Add(maxSkew)):
		return errSkewed
	case a.expires > 0 && now.After(t.Add(a.expires)):
		return errExpired
	case a.expires == 0 && t.Before(now.Add(-maxSkew)):
		return errSkewed
	}
	return nil
}

// signsAmzHeaders says whether every header that changes what the request
// means is under the signature.
func signsAmzHeaders(r *http.Request, signed []string) bool {
	for name := range r.Header {
		l := strings.ToLower(name)
		if strings.HasPrefix(l, "x-amz-") && !slices.Contains(signed, l) {
			return false
		}
	}
	return true
}

// headerOf returns a request's header by its lower-case name, as it was signed.
func headerOf(r *http.Request) func(string) string {
	return func(name string) string {
		switch name {
		case "host":
			return r.Host
		case "content-length":
			return strconv.FormatInt(r.ContentLength, 10)
		}
		return strings.Join(r.Header.Values(name), ",")
	}
}
