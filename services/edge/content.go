package edge

import (
	"net/http"
	"strconv"
)

// Content is an answer that is not a JSON value of the API's own: a manifest,
// say, whose form somebody else has laid down.
type Content struct {
	// Type is its media type, which the operation's Produces names as well.
	Type string
	Body []byte
	// Any says that pages of every origin may read it.
	Any bool
}

// write answers with it; what it says is of the moment.
func (c Content) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", c.Type)
	h.Set("Content-Length", strconv.Itoa(len(c.Body)))
	h.Set("Cache-Control", "no-store")
	if c.Any {
		h.Set("Access-Control-Allow-Origin", "*")
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(c.Body) // the client is gone: nothing to tell it
}
