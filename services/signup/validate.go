package signup

import (
	"fmt"
	"net/mail"
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// Reasons of the role's own errors.
const (
	// ReasonFields: fields of the request are wrong; the message names each.
	ReasonFields = "invalid_fields"
	// ReasonCredentials: e-mail or password is wrong; it never says which.
	ReasonCredentials = "wrong_credentials"
	// ReasonEmailTaken: the e-mail belongs to a member already.
	ReasonEmailTaken = "email_taken"
	// ReasonKeyReused: an idempotency key came again with other content.
	ReasonKeyReused = "key_reused"
)

// devices are the kinds a member token may be made for.
func devices() []string { return []string{"web", "phone", "tv"} }

// faults collects what is wrong with a request, field by field, so that a
// person mends a form once.
type faults []string

func (f *faults) add(ok bool, field, format string, args ...any) {
	if !ok {
		*f = append(*f, field+": "+fmt.Sprintf(format, args...))
	}
}

func (f faults) err(op string) error {
	if len(f) == 0 {
		return nil
	}
	e := services.Errorf(services.Invalid, "%s", strings.Join(f, "; ")).WithReason(ReasonFields).WithRemedy("mend the fields named and send the request again")
	e.Op = op
	return e
}

// normalise brings an address to the one form that is stored and looked up.
func normalise(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

func validEmail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && len(s) <= 254
}

func validCountry(s string) bool {
	return len(s) == 2 && strings.IndexFunc(s, func(r rune) bool { return r < 'A' || r > 'Z' }) < 0
}

// validate checks a request whose e-mail is normalised already.
func (r SignupRequest) validate(plans []sqldb.Plan) error {
	var f faults
	f.add(r.Key != "" && len(r.Key) <= 128, "key", "an idempotency key of 1 to 128 bytes is needed")
	f.add(validEmail(r.Email), "email", "%q is not an e-mail address", r.Email)
	f.add(strings.TrimSpace(r.Name) != "" && len(r.Name) <= 100, "name", "a name of 1 to 100 bytes is needed")
	f.add(len(r.Password) >= minPassword && len(r.Password) <= maxPassword, "password", "a password of %d to %d bytes is needed", minPassword, maxPassword)
	f.add(validCountry(r.Country), "country", "%q is not a country code: write it like US or GB", r.Country)
	known := make([]string, len(plans))
	for i, p := range plans {
		known[i] = p.ID
	}
	f.add(slices.Contains(known, r.Plan), "plan", "%q is not one of %s", r.Plan, strings.Join(known, ", "))
	return f.err("signup")
}

func (r SigninRequest) validate() error {
	var f faults
	f.add(r.Email != "" && len(r.Email) <= 254, "email", "an e-mail address is needed")
	f.add(r.Password != "" && len(r.Password) <= maxPassword, "password", "a password of at most %d bytes is needed", maxPassword)
	f.add(slices.Contains(devices(), r.Device), "device", "%q is not one of %s", r.Device, strings.Join(devices(), ", "))
	return f.err("signin")
}
