package gateway

import (
	"io"
	"net/http"
	"strings"
)

// HealthPath is answered by the gateway itself, unless a route has it: whoever
// asks wants to know whether the way to the gateway is whole, so neither the
// region's savers nor a limit are asked. It is no client's request, and the
// evacuation does not count it as one.
const HealthPath = "/healthz"

// asksHealth is the built-in filter "health".
func (s *Server) asksHealth(ex *Exchange) error {
	ex.health = ex.Route == nil
	return nil
}

func (s *Server) answerHealth(ex *Exchange) error {
	const ok = "ok\n"
	h := NewHeader("Content-Type", "text/plain; charset=utf-8", "Cache-Control", "no-store")
	ex.Response = Response{Status: http.StatusOK, Header: h, Body: io.NopCloser(strings.NewReader(ok)), ContentLength: int64(len(ok))}
	return nil
}
