package registry

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

const (
	// maxInstance bounds the body of a registration, in bytes.
	maxInstance = 1 << 20
	// maxBatch bounds the body of a replication request: 250 items, generously.
	maxBatch = 16 << 20
	// firstRead is what is set aside for a body whose length is not known.
	firstRead = 4 << 10
)

// tooLarge says that a body is above its limit.
type tooLarge struct{ limit int64 }

func (e tooLarge) Error() string { return fmt.Sprintf("the body is above %d bytes", e.limit) }

// unknownCoding is a Content-Encoding that is not known.
type unknownCoding string

func (e unknownCoding) Error() string {
	return fmt.Sprintf("Content-Encoding %q is not known; gzip is", string(e))
}

// readBody reads a body of at most limit bytes, zipped or not. One that says
// it is longer is refused before any of it is read, and the connection is
// closed, so that the rest is never taken in.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, tooLarge{limit}
	}
	var src io.Reader = http.MaxBytesReader(w, r.Body, limit)
	switch enc := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, bodyError(err, limit)
		}
		src = io.LimitReader(z, limit+1) // a small body may grow without end
	default:
		return nil, unknownCoding(enc)
	}
	b := make([]byte, 0, max(firstRead, min(r.ContentLength+1, limit)))
	for {
		n, err := src.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case int64(len(b)) > limit:
			return nil, tooLarge{limit}
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, bodyError(err, limit)
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

func bodyError(err error, limit int64) error {
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return tooLarge{limit}
	}
	return err
}

// refuseBody answers what readBody or a decoder could not take.
func refuseBody(w http.ResponseWriter, err error) {
	var (
		big    tooLarge
		coding unknownCoding
	)
	switch {
	case errors.As(err, &coding):
		w.Header().Set("Accept-Encoding", "gzip") // RFC 9110 section 15.5.16
		telemetry.WriteJSON(w, http.StatusUnsupportedMediaType, services.ProblemOf(services.Errorf(services.Invalid, "registry: %v", err)))
		return
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		telemetry.WriteJSON(w, http.StatusRequestTimeout, services.ProblemOf(services.Errorf(services.Invalid, "registry: the body of the request took too long")))
		return
	case errors.As(err, &big):
		telemetry.WriteJSON(w, http.StatusRequestEntityTooLarge, services.ProblemOf(services.Errorf(services.Invalid, "registry: %v", err)))
		return
	}
	telemetry.WriteJSON(w, http.StatusBadRequest, services.ProblemOf(services.Errorf(services.Invalid, "registry: %v", err).
		WithRemedy("write it as the registry does: GET /eureka/v2/apps")))
}
