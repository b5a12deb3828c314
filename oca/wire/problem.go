package wire

import (
	"encoding/json"

	"github.com/flix-lab/flix/services"
)

// Problem answers with an error as JSON (services.Problem); no cache keeps it.
func Problem(r *Request, a *Answer, status int, err error) {
	body, jerr := json.Marshal(services.ProblemOf(err))
	if jerr != nil { // Problem holds only strings
		panic("wire: problem: " + jerr.Error())
	}
	a.Set("Cache-Control", "no-store")
	a.Text(r, status, "application/problem+json", append(body, '\n'))
}

func problem(r *Request, a *Answer, m *malformed) {
	kind := services.Invalid
	if m.status == 408 {
		kind = services.Unavailable
	}
	Problem(r, a, m.status, services.Errorf(kind, "%s", m.why).WithReason("request"))
}

func errMethod(method string) error {
	return services.Errorf(services.Invalid, "%q is not a method of an appliance", method).WithReason("method")
}
