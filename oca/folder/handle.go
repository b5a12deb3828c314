package folder

import (
	"strings"
	"time"

	"github.com/flix-lab/flix/oca/access"
	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
)

// requests answers for a Server.
type requests struct{ *Server }

// Serve implements wire.Handler.
func (h requests) Serve(r *wire.Request, a *wire.Answer) {
	if h.log != nil {
		a.Start = time.Now()
	}
	if wire.Method(r, a) {
		return
	}
	if err := h.answer(r, a); err != nil {
		wire.Problem(r, a, services.KindOf(err).HTTPStatus(), err)
	}
}

// Done implements wire.Handler.
func (h requests) Done(r *wire.Request, a *wire.Answer) {
	if h.log == nil {
		return
	}
	data, ok := access.CMCD(r)
	if h.c.AccessCMCD && !ok {
		return
	}
	l := access.Line{Path: withoutToken(r.Path)}
	l.Fill(r, a, data, a.Start)
	h.log.Note(l)
}

// withoutToken leaves a signature out: a log must not let its reader replay a
// URL.
func withoutToken(path string) string {
	tok, rest, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if ok && len(tok) > 60 && strings.Count(tok, ".") == 1 {
		return "/-/" + rest
	}
	return path
}
