package web

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/flix-lab/flix/services"
)

const (
	// patience is how long a request is tried, firstWait and longestWait how
	// long to wait in between; the wait doubles.
	patience               = 15 * time.Second
	firstWait, longestWait = 100 * time.Millisecond, time.Second
	// maxBody is the largest body that the API takes, in bytes.
	maxBody = 64 << 10
)

// insist makes a request as a client program of the lab does: again, and of
// another gateway, as long as the API cannot be reached or cannot serve. Every
// request of the public API may be made twice: what changes something carries a
// key. A browser would not, and a stock player knows nothing of gateways. The way
// is asked for each time: the lab may be another one by then.
func insist(way func() (http.RoundTripper, error), r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		_ = r.Body.Close()
		switch {
		case err != nil:
			return nil, services.Errorf(services.Invalid, "the request's body could not be read: %v", err)
		case len(body) > maxBody:
			return nil, services.Errorf(services.Invalid, "the request's body has more than %d bytes", maxBody)
		}
	}
	until := time.Now().Add(patience)
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		try := r.Clone(r.Context())
		if r.Body != nil {
			try.Body, try.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
		to, err := way()
		if err != nil {
			return nil, err
		}
		resp, err := to.RoundTrip(try)
		if !again(resp, err) || time.Now().Add(wait).After(until) {
			return resp, err
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-r.Context().Done():
			t.Stop()
			return nil, r.Context().Err()
		case <-t.C:
		}
	}
}

// again says whether another try may help.
func again(resp *http.Response, err error) bool {
	if err != nil {
		return services.KindOf(err) == services.Unavailable
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
