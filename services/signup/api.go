// Package signup is the API for what happens before and around membership:
// plans, sign-up with a free trial, sign-in.
package signup

import (
	"net/http"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/sqldb"
)

// Paths of the signup API behind the gateway.
const (
	PathPlans  = "/signup/plans"  // GET: []sqldb.Plan
	PathSignup = "/signup/member" // POST SignupRequest: SigninReply
	PathSignin = "/signup/signin" // POST SigninRequest: SigninReply
	// Both need a member token.
	PathAccount = "/signup/account" // GET: Account
	PathPlan    = "/signup/plan"    // POST PlanRequest: Account
	// PathDocument is the OpenAPI description of the whole public API.
	PathDocument = "/openapi.json" // GET
)

// SignupRequest makes a member. Key is the client's idempotency key.
type SignupRequest struct {
	Key      string `json:"key" rule:"required;min=1;max=128" doc:"idempotency key, made by the client for one sign-up"`
	Email    string `json:"email" rule:"required;max=254" pattern:"^[A-Za-z0-9_%+-]+([.][A-Za-z0-9_%+-]+)*@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$"`
	Name     string `json:"name" rule:"required;min=1;max=100" pattern:"[^ \t\r\n]"`
	Password string `json:"password" rule:"required;min=8;max=256"`
	Plan     string `json:"plan" rule:"required" pattern:"^[a-z0-9-]{1,32}$" doc:"the id of a plan"`
	Country  string `json:"country" rule:"required" pattern:"^[A-Z]{2}$" doc:"ISO 3166-1 alpha-2"`
}

// SigninRequest signs a member in on a device of a kind ("web", "phone", "tv").
type SigninRequest struct {
	Email    string `json:"email" rule:"required;min=1;max=254"`
	Password string `json:"password" rule:"required;min=1;max=256"`
	Device   string `json:"device" rule:"required;enum=web|phone|tv" doc:"the kind of device that the token is for"`
}

// SigninReply carries the member token for "Authorization: Bearer".
type SigninReply struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
	Member  string    `json:"member_id"`
	Name    string    `json:"name"`
	Plan    string    `json:"plan"`
	Country string    `json:"country"`
}

// PlanRequest changes the member's plan. Key is the client's idempotency key.
type PlanRequest struct {
	Key  string `json:"key" rule:"required;min=1;max=128" doc:"idempotency key, made by the client for one change"`
	Plan string `json:"plan" rule:"required" pattern:"^[a-z0-9-]{1,32}$" doc:"the id of a plan"`
}

// Account is a membership with its ledger, oldest entry first.
type Account struct {
	Member  string `json:"member_id"`
	Email   string `json:"email"`
	Name    string `json:"name"`
	Plan    string `json:"plan"`
	Country string `json:"country"`
	// TrialEnds is when the first charge is due, NextCharge when the next one is.
	TrialEnds  time.Time `json:"trial_ends"`
	NextCharge time.Time `json:"next_charge"`
	// BalanceCents is what was charged so far, less what was credited.
	BalanceCents int    `json:"balance_cents"`
	Ledger       []Line `json:"ledger"`
}

// Line is one entry of the ledger.
type Line struct {
	Kind  string    `json:"kind" doc:"trial, charge or credit"`
	Cents int       `json:"cents"`
	At    time.Time `json:"at"`
}

// Operations describes the API.
func Operations() []edge.Operation {
	o := operations()
	return []edge.Operation{o.plans, o.signup, o.signin, o.account, o.plan}
}

type described struct{ plans, signup, signin, account, plan edge.Operation }

func operations() described {
	return described{
		plans:   edge.Operation{Pattern: "GET " + PathPlans, ID: "listPlans", Summary: "The plans, cheapest first", Reply: []sqldb.Plan{}},
		signup:  edge.Operation{Pattern: "POST " + PathSignup, ID: "signUp", Summary: "Become a member, with a free trial", Body: SignupRequest{}, Reply: SigninReply{}, Fails: []services.Kind{services.Conflict, services.NotFound}},
		signin:  edge.Operation{Pattern: "POST " + PathSignin, ID: "signIn", Summary: "Get a member token", Body: SigninRequest{}, Reply: SigninReply{}, Fails: []services.Kind{services.Denied}},
		account: edge.Operation{Pattern: "GET " + PathAccount, ID: "getAccount", Summary: "The membership with its ledger", Reply: Account{}, Member: true, Fails: []services.Kind{services.NotFound}},
		plan:    edge.Operation{Pattern: "POST " + PathPlan, ID: "changePlan", Summary: "Change to another plan; the rest of the period is charged or credited", Body: PlanRequest{}, Reply: Account{}, Member: true, Fails: []services.Kind{services.NotFound, services.Conflict}},
	}
}

// document is the route of the API's description itself.
func document() edge.Operation {
	return edge.Operation{Pattern: http.MethodGet + " " + PathDocument, ID: "getDocument", Summary: "This description", Reply: map[string]string{}}
}
