package wire

// CrossOrigin lists the fields that let a page of any origin play from here and
// measure it (Fetch, Resource Timing).
func CrossOrigin() []Field {
	return []Field{
		{"Access-Control-Allow-Origin", "*"},
		{"Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range, Date, ETag, Last-Modified"},
		{"Cross-Origin-Resource-Policy", "cross-origin"},
		{"Timing-Allow-Origin", "*"},
	}
}

// Method answers what is neither GET nor HEAD, preflights among it, and says
// whether it did.
func Method(r *Request, a *Answer) bool {
	switch r.Method {
	case "GET", "HEAD":
		return false
	case "OPTIONS":
		a.Empty(204)
		a.Set("Allow", allowed)
		a.Set("Access-Control-Allow-Methods", allowed)
		a.Set("Access-Control-Allow-Headers", "Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, If-Range, Cache-Control, Traceparent, Tracestate, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status")
		// A page of the internet may play from a lab on its own machine (Private
		// Network Access, 3.1); the gateway says so, too.
		a.Set("Access-Control-Allow-Private-Network", "true")
		a.Set("Access-Control-Max-Age", "86400")
		return true
	}
	a.Set("Allow", allowed)
	Problem(r, a, 405, errMethod(r.Method))
	return true
}

const allowed = "GET, HEAD, OPTIONS"
