package folder

import (
	"time"

	"github.com/flix-lab/flix/oca/wire"
	"github.com/flix-lab/flix/services"
)

// requests answers for a Server.
type requests struct{ *Server }

// Serve implements wire.Handler.
func (h requests) Serve(r *wire.Request, a *wire.Answer) {
	if h.log != nil {
		a.State = time.Now()
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
	if h.log != nil {
		h.log.note(r, a, h.c.AccessCMCD)
	}
}
