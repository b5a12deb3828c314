package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/flix-lab/flix/services"
)

// ReasonFields: fields of the request are wrong; the message names each.
const ReasonFields = "invalid_fields"

// guard checks the requests of one route by its description.
type guard struct {
	body   *checker // nil takes none
	params []param
}

type param struct {
	Param
	check *checker
}

func newGuard(o Operation) *guard {
	g, all := &guard{}, schemas{}
	if o.Body != nil {
		g.body = all.compile(all.of(reflect.TypeOf(o.Body)))
	}
	for _, p := range o.Params {
		g.params = append(g.params, param{p, all.compile(&p.Schema)})
	}
	return g
}

// request returns what is wrong with a request, and the status that says so. A
// body that passes can be read again.
func (g *guard) request(r *http.Request) (int, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return http.StatusBadRequest, services.Errorf(services.Invalid, "the query cannot be read: %v", err).WithReason(ReasonFields)
	}
	var faults []string
	for _, p := range g.params {
		faults = append(faults, p.faults(r, query)...)
	}
	if err := fieldsWrong(faults); err != nil {
		return http.StatusBadRequest, err
	}
	if g.body == nil {
		return 0, nil
	}
	return g.checkBody(r)
}

func (p param) faults(r *http.Request, query url.Values) []string {
	values := query[p.Name]
	if p.In == "path" {
		values = []string{r.PathValue(p.Name)}
	}
	switch {
	case len(values) == 0 && p.Required:
		return []string{p.Name + ": it is missing"}
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return []string{p.Name + ": it is there more than once"}
	}
	var v any = values[0]
	if p.Schema.Type == "integer" {
		v = json.Number(values[0])
		if strings.Trim(values[0], "-0123456789") != "" { // what JSON, or Go, takes beyond digits
			return []string{p.Name + ": " + values[0] + " is not a whole number"}
		}
	}
	return p.check.faults(p.Name, v)
}

func (g *guard) checkBody(r *http.Request) (int, error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		if kind, _, err := mime.ParseMediaType(t); err != nil || kind != "application/json" {
			return http.StatusUnsupportedMediaType, services.Errorf(services.Invalid, "the body is %.100q", t).WithReason("bad_media_type").WithRemedy("send application/json")
		}
	}
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, badBody(err)
	case err != nil:
		return http.StatusBadRequest, services.Errorf(services.Invalid, "the body could not be read: %v", err).WithReason("bad_json")
	case !utf8.Valid(body):
		return http.StatusBadRequest, services.Errorf(services.Invalid, "the body is not UTF-8").WithReason("bad_json")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return http.StatusBadRequest, badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return http.StatusBadRequest, services.Errorf(services.Invalid, "the body goes on after its JSON object").WithReason("bad_json")
	}
	if err := fieldsWrong(g.body.faults("", v)); err != nil {
		return http.StatusBadRequest, err
	}
	if v, changed := g.body.exact(v); changed {
		if body, err = json.Marshal(v); err != nil { // it was JSON before
			return http.StatusInternalServerError, services.Errorf(services.Internal, "the body could not be written anew: %v", err)
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return 0, nil
}

// fieldsWrong names every field that is wrong, so that a person mends a form
// once; nil for none.
func fieldsWrong(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return services.Errorf(services.Invalid, "%s", strings.Join(faults, "; ")).WithReason(ReasonFields).WithRemedy("mend the fields named and send the request again")
}
