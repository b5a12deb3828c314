package edge

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/flix-lab/flix/services"
)

// Decode reads a JSON body. Unknown fields are let through, so that an older
// API takes what a newer client sends. Errors are Invalid, with reason
// body_too_large or bad_json.
func Decode[T any](r *http.Request) (T, error) {
	var v T
	d := json.NewDecoder(r.Body)
	if err := d.Decode(&v); err != nil {
		return v, badBody(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, services.Errorf(services.Invalid, "the body goes on after its JSON object").WithReason("bad_json")
	}
	return v, nil
}

// badBody says what is wrong with a body, as far as the decoder knows.
func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return services.Errorf(services.Invalid, "the body is larger than %d bytes", tooLarge.Limit).WithReason("body_too_large")
	}
	var field *json.UnmarshalTypeError
	if errors.As(err, &field) && field.Field != "" {
		return services.Errorf(services.Invalid, "%s: a JSON %s does not fit", field.Field, field.Value).WithReason("bad_json")
	}
	return services.Errorf(services.Invalid, "the body is not a JSON object: %v", err).WithReason("bad_json")
}
