package edge

import "net/http"

// The headers by which the gateway names a caller to the APIs.
const (
	HeaderMember   = "X-Flix-Member"
	HeaderPlan     = "X-Flix-Plan"
	HeaderCountry  = "X-Flix-Country"
	HeaderDevice   = "X-Flix-Device"
	HeaderClientIP = "X-Flix-Client-Ip"
	HeaderISP      = "X-Flix-Isp"
)

// Caller is who asks, in the gateway's words. What it does not say is empty.
type Caller struct {
	// Member and Plan are of the member token; Device is what it was made for.
	Member, Plan, Device string
	// ClientIP is the address of the client.
	ClientIP string
	// ISP has that address, and Country is the ISP's.
	ISP, Country string
}

// CallerOf reads the gateway's headers.
func CallerOf(r *http.Request) Caller {
	h := r.Header
	return Caller{
		Member: h.Get(HeaderMember), Plan: h.Get(HeaderPlan), Device: h.Get(HeaderDevice),
		ClientIP: h.Get(HeaderClientIP), ISP: h.Get(HeaderISP), Country: h.Get(HeaderCountry),
	}
}

// HandleMember is Handle for a route that only a member may use; anybody else
// is Denied with reason no_member.
func (e *Edge) HandleMember(o Operation, answer func(*http.Request, Caller) (any, error)) {
	o.Member = true
	e.Handle(o, func(r *http.Request) (any, error) { return answer(r, CallerOf(r)) })
}
