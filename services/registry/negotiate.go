package registry

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/telemetry"
)

// form chooses the form of an answer: XML unless JSON is asked for.
func form(r *http.Request) eureka.Form {
	return eureka.Form{
		XML:     !strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "json"),
		Compact: strings.EqualFold(r.Header.Get(headerAccept), "compact"),
	}
}

// acceptable says whether the client takes one of the two forms. One that asks
// for HTML alone is told so, as by the original; what goes by the name of XML
// or JSON in any way is taken for it.
func acceptable(r *http.Request) bool {
	asked := false
	for _, h := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(h, ",") {
			media, params, _ := strings.Cut(strings.ToLower(part), ";")
			if media = strings.TrimSpace(media); media == "" {
				continue
			}
			asked = true
			switch {
			case weight(params) == 0:
			case media == "*", media == "*/*", media == "application/*", strings.Contains(media, "xml"), strings.Contains(media, "json"):
				return true
			}
		}
	}
	return !asked
}

// weight is the q of a media type's or coding's parameters; 1 when there is
// none, 0 when it is none.
func weight(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return 0
		}
		return q
	}
	return 1
}

func wantsGzip(r *http.Request) bool {
	for _, h := range r.Header.Values("Accept-Encoding") {
		for enc := range strings.SplitSeq(h, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(enc), ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				return weight(params) > 0
			}
		}
	}
	return false
}

// contentForm is the form of a request's body, or false when it is neither.
func contentForm(r *http.Request) (string, bool) {
	media, _, _ := strings.Cut(strings.ToLower(r.Header.Get("Content-Type")), ";")
	switch media = strings.TrimSpace(media); {
	case strings.HasSuffix(media, "json"):
		return eureka.JSON, true
	case strings.HasSuffix(media, "xml"):
		return eureka.XML, true
	}
	return "", false
}

// refuseMedia answers a body that is by its own word not of the forms wanted.
func refuseMedia(w http.ResponseWriter, r *http.Request, want string) {
	telemetry.WriteJSON(w, http.StatusUnsupportedMediaType, services.ProblemOf(services.Errorf(services.Invalid,
		"registry: Content-Type %q is not %s", r.Header.Get("Content-Type"), want)))
}

// writeInstance writes one instance, in full whatever is asked for: the short
// form is for lists.
func writeInstance(w http.ResponseWriter, r *http.Request, status int, in *eureka.Instance) {
	f := eureka.Form{XML: form(r).XML}
	body, h := eureka.AppendDocument(nil, in, f), w.Header()
	h.Set("Content-Type", f.Media())
	h.Set("Vary", varies)
	if wantsGzip(r) {
		body = compress(body)
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nothing to tell it
}
