// Package signup is the API for what happens before and around membership:
// plans, sign-up with a free trial, sign-in.
package signup

import "time"

// Paths of the signup API behind the gateway.
const (
	PathPlans  = "/signup/plans"  // GET: []sqldb.Plan
	PathSignup = "/signup/member" // POST SignupRequest: SigninReply
	PathSignin = "/signup/signin" // POST SigninRequest: SigninReply
)

// SignupRequest makes a member. Key is the client's idempotency key.
type SignupRequest struct {
	Key      string `json:"key"`
	Email    string `json:"email"`
	Name     string `json:"name"`
	Password string `json:"password"`
	Plan     string `json:"plan"`
	Country  string `json:"country"`
}

// SigninRequest signs a member in on a device of a kind ("web", "phone", "tv").
type SigninRequest struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	Device   string `json:"device"`
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
