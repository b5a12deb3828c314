package objects

import (
	"encoding/xml"
	"errors"
	"net/http"
	"syscall"
)

// fault is an error answer of the S3 protocol.
type fault struct {
	code   string
	status int
	msg    string
}

func (f *fault) Error() string { return f.code + ": " + f.msg }

// with returns the same fault with a message of its own.
func (f *fault) with(msg string) *fault { return &fault{code: f.code, status: f.status, msg: msg} }

// The faults of the server, with S3's codes and statuses.
var (
	errAccessDenied     = &fault{"AccessDenied", http.StatusForbidden, "Access denied: the request carries no signature."}
	errBadAccessKey     = &fault{"InvalidAccessKeyId", http.StatusForbidden, "The access key is not known here."}
	errBadSignature     = &fault{"SignatureDoesNotMatch", http.StatusForbidden, "The signature does not match the request: check the secret key and the signing method."}
	errSkewed           = &fault{"RequestTimeTooSkewed", http.StatusForbidden, "The request's time differs too much from the server's."}
	errExpired          = &fault{"AccessDenied", http.StatusForbidden, "The signed URL has expired."}
	errMalformedAuth    = &fault{"AuthorizationHeaderMalformed", http.StatusBadRequest, "The authorization is malformed."}
	errNoBucket         = &fault{"NoSuchBucket", http.StatusNotFound, "The bucket does not exist."}
	errNoKey            = &fault{"NoSuchKey", http.StatusNotFound, "The object does not exist."}
	errNoUpload         = &fault{"NoSuchUpload", http.StatusNotFound, "The multipart upload does not exist."}
	errBucketExists     = &fault{"BucketAlreadyOwnedByYou", http.StatusConflict, "You own this bucket already."}
	errBucketNotEmpty   = &fault{"BucketNotEmpty", http.StatusConflict, "The bucket still holds objects."}
	errBadBucketName    = &fault{"InvalidBucketName", http.StatusBadRequest, "A bucket name is 3 to 63 lower-case letters, digits, dots and hyphens."}
	errKeyTooLong       = &fault{"KeyTooLongError", http.StatusBadRequest, "A key is at most 1024 bytes."}
	errInvalidArgument  = &fault{"InvalidArgument", http.StatusBadRequest, "Invalid argument."}
	errInvalidRequest   = &fault{"InvalidRequest", http.StatusBadRequest, "Invalid request."}
	errInvalidRange     = &fault{"InvalidRange", http.StatusRequestedRangeNotSatisfiable, "The range lies outside the object."}
	errInvalidPart      = &fault{"InvalidPart", http.StatusBadRequest, "A part is missing or its entity tag does not match."}
	errPartOrder        = &fault{"InvalidPartOrder", http.StatusBadRequest, "The parts are not in ascending order."}
	errPartTooSmall     = &fault{"EntityTooSmall", http.StatusBadRequest, "Every part but the last must have at least 5 MiB."}
	errTooLarge         = &fault{"EntityTooLarge", http.StatusBadRequest, "The upload exceeds what one request may carry."}
	errMissingLength    = &fault{"MissingContentLength", http.StatusLengthRequired, "The length of the body must be declared."}
	errIncompleteBody   = &fault{"IncompleteBody", http.StatusBadRequest, "The body ended before the declared length."}
	errBadDigest        = &fault{"BadDigest", http.StatusBadRequest, "The Content-MD5 does not match what was received."}
	errInvalidDigest    = &fault{"InvalidDigest", http.StatusBadRequest, "The Content-MD5 is not valid."}
	errBadChecksum      = &fault{"BadDigest", http.StatusBadRequest, "The checksum does not match what was received."}
	errContentSHA       = &fault{"XAmzContentSHA256Mismatch", http.StatusBadRequest, "The x-amz-content-sha256 header does not match what was received."}
	errMalformedXML     = &fault{"MalformedXML", http.StatusBadRequest, "The XML is not well formed."}
	errPrecondition     = &fault{"PreconditionFailed", http.StatusPreconditionFailed, "A precondition does not hold."}
	errMethodNotAllowed = &fault{"MethodNotAllowed", http.StatusMethodNotAllowed, "The method is not allowed on this resource."}
	errNotImplemented   = &fault{"NotImplemented", http.StatusNotImplemented, "This server does not offer that function."}
	errInternal         = &fault{"InternalError", http.StatusInternalServerError, "The store failed; the server's log says why."}
	errDiskFull         = &fault{"InsufficientStorage", http.StatusInsufficientStorage, "The disk that the store's data are on is full."}
	errChunkMalformed   = &fault{"IncompleteBody", http.StatusBadRequest, "The aws-chunked body is malformed."}
	errTrailerMalformed = &fault{"MalformedTrailerError", http.StatusBadRequest, "The trailer of the body is malformed or lacks a declared checksum."}
	errPartNumber       = &fault{"InvalidArgument", http.StatusBadRequest, "A part number lies between 1 and 10000."}
)

// asFault turns any error into an answer; what is not a fault is internal, but for
// a disk or a quota that is full: who asked can mend that.
func asFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errDiskFull
	}
	return errInternal
}

// errorBody is the XML of an error answer.
type errorBody struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}
