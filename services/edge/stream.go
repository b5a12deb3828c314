package edge

import (
	"context"
	"io"
	"net/http"
	"time"
)

// HeaderHeld marks an answer that lasts as long as its caller listens. It is for
// the gateway, which takes it off: such an answer is not work under way, and must
// not take the place of a request that is.
const HeaderHeld = "X-Flix-Held"

// streamPatience is how long a caller may take what was written to it.
const streamPatience = 10 * time.Second

// Stream is an answer that is written bit by bit. Its status is 200: what may
// fail has to be tried before.
type Stream struct {
	// Type is its media type, which the operation's Produces or Reply implies.
	Type string
	// Any says that pages of every origin may read it.
	Any bool
	// Send writes the body, each write at once to the wire, until it returns; ctx
	// ends with the caller and with the server. It is not called for HEAD.
	Send func(ctx context.Context, w io.Writer) error
	// Close is called once after all, whether or not Send was; it may be nil.
	Close func()
}

// serve answers with it. While it lasts it does not count as load.
func (s Stream) serve(e *Edge, w http.ResponseWriter, r *http.Request) {
	if s.Close != nil {
		defer s.Close()
	}
	h := w.Header()
	h.Set("Content-Type", s.Type)
	h.Set("Cache-Control", "no-store")
	h.Set(HeaderHeld, "1")
	if s.Any {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	e.load.inFlight.Add(-1)
	defer e.load.inFlight.Add(1)
	out := &pushed{w: w, rc: http.NewResponseController(w)}
	if out.rc.Flush() != nil {
		return
	}
	_ = s.Send(r.Context(), out) // the caller is gone: nothing to tell it
	_ = out.rc.SetWriteDeadline(time.Time{})
}

// pushed writes through to the wire. Without a deadline a caller that reads no
// more would hold a stream for good.
type pushed struct {
	w  io.Writer
	rc *http.ResponseController
}

// Write implements io.Writer.
func (p *pushed) Write(b []byte) (int, error) {
	if err := p.rc.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
		return 0, err
	}
	n, err := p.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, p.rc.Flush()
}
