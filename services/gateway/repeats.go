package gateway

import (
	"errors"
	"net/http/httptrace"
	"sync/atomic"
)

// maxSent is how often one request is sent by a Send. Package net/http sends one
// again that a server did not take up (GOAWAY, REFUSED_STREAM), but also each that
// a server resets with PROTOCOL_ERROR, on connection after connection, a POST too.
const maxSent = 2

var errRepeated = errors.New("the server resets the request again and again")

// repeats counts how often a request has been sent.
type repeats struct {
	sent   atomic.Int32
	enough func()
}

// trace follows the request through net/http.
func (r *repeats) trace(in *interim) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		Got1xxResponse: in.got,
		WroteHeaders:   func() { r.sent.Add(1) },
		GotConn: func(httptrace.GotConnInfo) {
			if r.sent.Load() >= maxSent {
				r.enough()
			}
		},
	}
}
