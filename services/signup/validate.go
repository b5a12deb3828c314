package signup

import (
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/sqldb"
)

// Reasons of the role's own errors.
const (
	// ReasonCredentials: e-mail or password is wrong; it never says which.
	ReasonCredentials = "wrong_credentials"
	// ReasonEmailTaken: the e-mail belongs to a member already.
	ReasonEmailTaken = "email_taken"
	// ReasonNoPlan: there is no plan of that id.
	ReasonNoPlan = "no_such_plan"
	// ReasonKeyReused: an idempotency key came again with other content.
	ReasonKeyReused = "key_reused"
)

// normalise brings an address to the one form that is stored and looked up.
func normalise(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// planIn finds a plan by its id.
func planIn(plans []sqldb.Plan, id string) (sqldb.Plan, error) {
	i := slices.IndexFunc(plans, func(p sqldb.Plan) bool { return p.ID == id })
	if i >= 0 {
		return plans[i], nil
	}
	known := make([]string, len(plans))
	for i, p := range plans {
		known[i] = p.ID
	}
	return sqldb.Plan{}, services.Errorf(services.NotFound, "plan: %q is not one of %s", id, strings.Join(known, ", ")).WithReason(ReasonNoPlan).WithRemedy("choose one of the plans at %s", PathPlans)
}
