package gateway

import (
	"strconv"
	"time"
)

// PassportState is a point in the life of a request. The names are those of
// Zuul 2's passport (com.netflix.zuul.passport.PassportState), so that who
// reads one reads the other.
type PassportState uint8

// The states.
const (
	inReqHeadersReceived PassportState = iota
	inReqCancelled
	filtersInboundStart
	filtersInboundEnd
	originConnAcquireStart
	originConnAcquireFailed
	inRespHeadersReceived
	originRetryStart
	originReadTimeout
	originException
	filtersOutboundStart
	filtersOutboundEnd
	outRespLastContentSent
)

var passportNames = [...]string{
	inReqHeadersReceived: "IN_REQ_HEADERS_RECEIVED", inReqCancelled: "IN_REQ_CANCELLED",
	filtersInboundStart: "FILTERS_INBOUND_START", filtersInboundEnd: "FILTERS_INBOUND_END",
	originConnAcquireStart: "ORIGIN_CONN_ACQUIRE_START", originConnAcquireFailed: "ORIGIN_CONN_ACQUIRE_FAILED",
	inRespHeadersReceived: "IN_RESP_HEADERS_RECEIVED",
	originRetryStart:      "ORIGIN_RETRY_START", originReadTimeout: "ORIGIN_CH_READ_TIMEOUT", originException: "ORIGIN_CH_EXCEPTION",
	filtersOutboundStart: "FILTERS_OUTBOUND_START", filtersOutboundEnd: "FILTERS_OUTBOUND_END",
	outRespLastContentSent: "OUT_RESP_LAST_CONTENT_SENT",
}

// String is the state's name.
func (s PassportState) String() string {
	if int(s) < len(passportNames) {
		return passportNames[s]
	}
	return "UNKNOWN"
}

// maxStamps bounds a passport; a request that is tried three times needs 19.
const maxStamps = 32

// Passport is the timeline of one request: what it went through, and when,
// counted from the moment its header was complete. The first states are kept
// where there are too many.
type Passport struct {
	n      int
	stamps [maxStamps]tagged
}

func (p *Passport) add(s PassportState, at time.Duration) {
	if p.n < maxStamps {
		p.stamps[p.n] = tag(uint8(s), at)
		p.n++
	}
}

// Text renders the passport in the form of Zuul's: the start in milliseconds of
// Unix time, then each state with its distance from it in nanoseconds.
func (p *Passport) Text(start, now time.Time) string {
	b := make([]byte, 0, 40+40*(p.n+1))
	b = append(b, "CurrentPassport {start_ms="...)
	b = strconv.AppendInt(b, start.UnixMilli(), 10)
	b = append(b, ", ["...)
	for _, s := range p.stamps[:p.n] {
		b = append(b, '+')
		b = strconv.AppendInt(b, int64(s.duration()), 10)
		b = append(b, '=')
		b = append(b, PassportState(s.number()).String()...)
		b = append(b, ", "...)
	}
	b = append(b, '+')
	b = strconv.AppendInt(b, int64(now.Sub(start)), 10)
	b = append(b, "=NOW]}"...)
	return string(b)
}

// trying notes the start of the nth try to have the request answered.
func (ex *Exchange) trying(n int, start time.Time) {
	at := start.Sub(ex.Received)
	if n > 0 {
		ex.Passport.add(originRetryStart, at)
	}
	ex.Passport.add(originConnAcquireStart, at)
}

// stateAfter is what a try led to.
func stateAfter(o outcome) PassportState {
	switch o {
	case refused:
		return originConnAcquireFailed
	case late:
		return originReadTimeout
	case broken, malformed:
		return originException
	case gone:
		return inReqCancelled
	}
	return inRespHeadersReceived
}
