package signup

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/edge"
	"github.com/flix-lab/flix/services/events"
	"github.com/flix-lab/flix/services/sqldb"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/services/telemetry/telemetrytest"
	"github.com/flix-lab/flix/services/token"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a relational store in memory; down makes it fail.
type store struct {
	mu      sync.Mutex
	down    bool
	behind  string                  // the plan of everybody at a replica that is behind
	members map[string]sqldb.Member // by e-mail
	entries map[string]sqldb.Entry
}

func (s *store) lock() (func(), error) {
	s.mu.Lock()
	if s.down {
		return s.mu.Unlock, services.Errorf(services.Unavailable, "the store is down")
	}
	return s.mu.Unlock, nil
}

func (s *store) Plans(context.Context) ([]sqldb.Plan, error) {
	unlock, err := s.lock()
	defer unlock()
	return []sqldb.Plan{{ID: "basic", Name: "Basic", PriceCents: 900}, {ID: "premium", Name: "Premium", PriceCents: 1800}}, err
}

func (s *store) MemberByEmail(_ context.Context, email string) (sqldb.Member, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return sqldb.Member{}, err
	}
	m, ok := s.members[email]
	if !ok {
		return m, services.Errorf(services.NotFound, "no member %s", email)
	}
	return m, nil
}

func (s *store) CreateMember(_ context.Context, m sqldb.Member, first sqldb.Entry) (sqldb.Member, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return sqldb.Member{}, err
	}
	if e, ok := s.entries[first.Key]; ok {
		for _, have := range s.members {
			if have.ID == e.Member {
				return have, nil
			}
		}
	}
	if _, ok := s.members[m.Email]; ok {
		return sqldb.Member{}, services.Errorf(services.Conflict, "e-mail exists")
	}
	s.members[m.Email], s.entries[first.Key] = m, first
	return m, nil
}

func (s *store) Member(_ context.Context, id services.MemberID) (sqldb.Member, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return sqldb.Member{}, err
	}
	m, err := s.byID(id)
	m.Plan = cmp.Or(s.behind, m.Plan)
	return m, err
}

func (s *store) byID(id services.MemberID) (sqldb.Member, error) {
	for _, m := range s.members {
		if m.ID == id {
			return m, nil
		}
	}
	return sqldb.Member{}, services.Errorf(services.NotFound, "no member %s", id)
}

func (s *store) ChangePlan(_ context.Context, c sqldb.PlanChange) (sqldb.Member, bool, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return sqldb.Member{}, false, err
	}
	m, err := s.byID(c.Member)
	_, done := s.entries[c.Entry.Key]
	if done || err != nil || m.Plan != c.From {
		return m, done, err
	}
	m.Plan = c.To
	s.members[m.Email], s.entries[c.Entry.Key] = m, c.Entry
	return m, true, nil
}

func (s *store) AppendEntry(_ context.Context, e sqldb.Entry) error {
	unlock, err := s.lock()
	defer unlock()
	if _, done := s.entries[e.Key]; !done && err == nil {
		s.entries[e.Key] = e
	}
	return err
}

func (s *store) Ledger(_ context.Context, id services.MemberID) ([]sqldb.Entry, error) {
	unlock, err := s.lock()
	defer unlock()
	var out []sqldb.Entry
	for _, e := range s.entries {
		if e.Member == id {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b sqldb.Entry) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key)) })
	return out, err
}

type sent struct {
	mu     sync.Mutex
	events []events.MemberEvent
}

func (s *sent) Send(_ context.Context, topic, key string, event any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := event.(events.MemberEvent)
	if !ok || topic != events.TopicMembers || key != e.Member {
		return services.Errorf(services.Invalid, "unexpected event %v on %s", event, topic)
	}
	s.events = append(s.events, e)
	return nil
}

type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (c *memory) Get(_ context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.m[key]; ok {
		return b, nil
	}
	return nil, services.Errorf(services.NotFound, "miss")
}

func (c *memory) Set(_ context.Context, key string, val []byte, _ time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[key] = val
	return nil
}

type rig struct {
	t      *testing.T
	base   string
	client *http.Client
	store  *store
	sent   *sent
	key    token.Key
	server *Server
	member string // whom the gateway vouches for
}

func start(t *testing.T, spoil ...func(*topology.Timing)) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.NewKey("lab", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, base: "http://" + ln.Addr().String(), client: &http.Client{Transport: &http.Transport{}}, key: key,
		store: &store{members: map[string]sqldb.Member{}, entries: map[string]sqldb.Entry{}}, sent: &sent{},
	}
	timing := topology.LabTiming()
	timing.CacheTTL = 0 // every read asks the store
	// What is up answers, however slow the machine is: an event is given a tenth of this.
	timing.RPCTimeout = topology.Duration(10 * time.Minute)
	for _, f := range spoil {
		f(&timing)
	}
	r.server, err = New(Deps{
		HTTP: ln, Tel: telemetry.Discard(), Timing: timing, Region: "us-east", Instance: "us-east/a/signup/1",
		Members: r.store, Cache: &memory{m: map[string][]byte{}}, Events: r.sent, Key: key, Iterations: 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Serve(ctx) }()
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

// do sends a request and reads either the answer or the problem.
func (r *rig) do(method, path string, body any, answer any) services.Problem {
	r.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			r.t.Fatal(err)
		}
		in = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, in)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.member != "" {
		req.Header.Set(edge.HeaderMember, r.member)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var p services.Problem
	to := answer
	if resp.StatusCode != http.StatusOK {
		to = &p
	}
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		r.t.Fatalf("%s %s: status %d: %v", method, path, resp.StatusCode, err)
	}
	// 405, 413 and 415 say more than their kind does.
	if s := resp.StatusCode; s != http.StatusOK && p.Kind.HTTPStatus() != s && s != http.StatusRequestEntityTooLarge && s != http.StatusMethodNotAllowed && s != http.StatusUnsupportedMediaType {
		r.t.Errorf("%s %s: status %d with problem %+v", method, path, resp.StatusCode, p)
	}
	return p
}

func ada() SignupRequest {
	return SignupRequest{Key: "k1", Email: "Ada@Example.org", Name: "Ada", Password: "correct horse", Plan: "premium", Country: "GB"}
}

func TestSignupThenSignin(t *testing.T) {
	r := start(t)
	var made, in SigninReply
	if p := r.do("POST", PathSignup, ada(), &made); p.Kind != "" {
		t.Fatalf("signup: %+v", p)
	}
	if p := r.do("POST", PathSignin, SigninRequest{Email: " ada@example.ORG ", Password: "correct horse", Device: "tv"}, &in); p.Kind != "" {
		t.Fatalf("signin: %+v", p)
	}
	if in.Member != made.Member || in.Plan != "premium" || in.Country != "GB" || in.Name != "Ada" {
		t.Errorf("signed in as %+v, signed up as %+v", in, made)
	}
	c, err := r.key.Verify(token.Member, in.Token, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := token.Claims{Lab: "lab", Audience: token.Member, Member: in.Member, Plan: "premium", Country: "GB", Device: "tv", Expires: in.Expires.Unix()}
	if c != want {
		t.Errorf("claims %+v, want %+v", c, want)
	}
	e := r.store.entries["signup/k1"]
	if e.Kind != "trial" || string(e.Member) != in.Member {
		t.Errorf("first ledger entry %+v", e)
	}
	if n := len(r.sent.events); n != 2 || r.sent.events[0].Kind != "signup" || r.sent.events[1].Kind != "signin" {
		t.Errorf("events %+v", r.sent.events)
	}
	if h := r.store.members["ada@example.org"].PasswordHash; !strings.HasPrefix(h, "pbkdf2-sha256$10$") {
		t.Errorf("stored hash %q", h)
	}
}

func TestSignupIsIdempotentByKey(t *testing.T) {
	r := start(t)
	var first, second SigninReply
	r.do("POST", PathSignup, ada(), &first)
	if p := r.do("POST", PathSignup, ada(), &second); p.Kind != "" || second.Member != first.Member {
		t.Errorf("the same request again: %+v, %+v", second, p)
	}
	if len(r.store.members) != 1 {
		t.Errorf("%d members", len(r.store.members))
	}
	other := ada()
	other.Password = "a guess at it"
	if p := r.do("POST", PathSignup, other, &second); p.Reason != ReasonKeyReused {
		t.Errorf("the key with another password: %+v", p)
	}
	for field, spoil := range map[string]func(*SignupRequest){
		"plan":    func(q *SignupRequest) { q.Plan = "basic" },
		"country": func(q *SignupRequest) { q.Country = "FR" },
		"name":    func(q *SignupRequest) { q.Name = "Grace" },
	} {
		other = ada()
		spoil(&other)
		if p := r.do("POST", PathSignup, other, &second); p.Reason != ReasonKeyReused {
			t.Errorf("the key with another %s: %+v", field, p)
		}
	}
	other = ada()
	other.Key = "k2"
	if p := r.do("POST", PathSignup, other, &second); p.Reason != ReasonEmailTaken || p.Remedy == "" {
		t.Errorf("the e-mail with another key: %+v", p)
	}
}

func TestSignupNamesWrongFields(t *testing.T) {
	r := start(t)
	tests := []struct {
		field string
		spoil func(*SignupRequest)
	}{
		{"key", func(q *SignupRequest) { q.Key = "" }},
		{"email", func(q *SignupRequest) { q.Email = "ada" }},
		{"email", func(q *SignupRequest) { q.Email = "Ada <ada@example.org>" }},
		{"name", func(q *SignupRequest) { q.Name = "  " }},
		{"name", func(q *SignupRequest) { q.Name = strings.Repeat("ä", 101) }},
		{"password", func(q *SignupRequest) { q.Password = "short" }},
		{"password", func(q *SignupRequest) { q.Password = strings.Repeat("x", 257) }},
		{"plan", func(q *SignupRequest) { q.Plan = "Gold plan" }},
		{"country", func(q *SignupRequest) { q.Country = "gb" }},
	}
	for _, tt := range tests {
		q := ada()
		tt.spoil(&q)
		p := r.do("POST", PathSignup, q, nil)
		if p.Reason != edge.ReasonFields || !strings.Contains(p.Error, tt.field+": ") || strings.Contains(p.Error, ";") {
			t.Errorf("%s: %+v", tt.field, p)
		}
	}
	p := r.do("POST", PathSignup, SignupRequest{}, nil)
	gold := ada()
	gold.Plan = "gold"
	if p := r.do("POST", PathSignup, gold, nil); p.Kind != services.NotFound || p.Reason != ReasonNoPlan || !strings.Contains(p.Error, "basic, premium") {
		t.Errorf("a plan that is none: %+v", p)
	}
	for _, f := range []string{"key: ", "email: ", "name: ", "password: ", "plan: ", "country: "} {
		if !strings.Contains(p.Error, f) {
			t.Errorf("an empty request is not told about %s: %q", f, p.Error)
		}
	}
	if len(r.store.members) != 0 {
		t.Error("a wrong request made a member")
	}
}

func TestSigninTellsNothing(t *testing.T) {
	r := start(t)
	r.do("POST", PathSignup, ada(), new(SigninReply))
	wrong := r.do("POST", PathSignin, SigninRequest{Email: "ada@example.org", Password: "wrong", Device: "web"}, nil)
	unknown := r.do("POST", PathSignin, SigninRequest{Email: "bob@example.org", Password: "wrong", Device: "web"}, nil)
	if wrong != unknown || wrong.Reason != ReasonCredentials || wrong.Kind != services.Denied {
		t.Errorf("wrong password %+v\nunknown e-mail %+v", wrong, unknown)
	}
	if p := r.do("POST", PathSignin, SigninRequest{Email: "ada@example.org", Password: "x", Device: "toaster"}, nil); p.Reason != edge.ReasonFields || !strings.Contains(p.Error, "device: ") {
		t.Errorf("unknown device: %+v", p)
	}
}

func TestStoreDown(t *testing.T) {
	r := start(t)
	var plans []sqldb.Plan
	if p := r.do("GET", PathPlans, nil, &plans); p.Kind != "" || len(plans) != 2 {
		t.Fatalf("plans: %+v %+v", plans, p)
	}
	r.store.mu.Lock()
	r.store.down = true
	r.store.mu.Unlock()
	plans = nil
	if p := r.do("GET", PathPlans, nil, &plans); p.Kind != "" || len(plans) != 2 {
		t.Errorf("plans from the stale copy: %+v %+v", plans, p)
	}
	// A member is never invented.
	if p := r.do("POST", PathSignin, SigninRequest{Email: "ada@example.org", Password: "x", Device: "web"}, nil); p.Kind != services.Unavailable {
		t.Errorf("signin without a store: %+v", p)
	}
	if p := r.do("POST", PathSignup, ada(), nil); p.Kind != services.Unavailable {
		t.Errorf("signup without a store: %+v", p)
	}
}

func TestBodies(t *testing.T) {
	r := start(t)
	for body, reason := range map[string]string{
		"": "bad_json", "{": "bad_json", "[]": edge.ReasonFields, `{"email":7}`: edge.ReasonFields, `{} {}`: "bad_json",
		`{"email":"` + strings.Repeat("x", edge.MaxBody) + `"}`: "body_too_large",
		`{"brand_new_field":1}`:                                 edge.ReasonFields, // let through, then found wanting
	} {
		if p := r.do("POST", PathSignin, body, nil); p.Kind != services.Invalid || p.Reason != reason {
			t.Errorf("%.20q: %+v, want reason %s", body, p, reason)
		}
	}
	if p := r.do("GET", "/signup/nowhere", nil, nil); p.Kind != services.NotFound {
		t.Errorf("unknown route: %+v", p)
	}
	if p := r.do("DELETE", PathPlans, nil, nil); p.Kind != services.Invalid || !strings.Contains(p.Remedy, "GET") {
		t.Errorf("unknown method: %+v", p)
	}
	telemetrytest.Await(t, r.server.d.Tel.Metrics, "http_requests_total", map[string]string{"route": "POST " + PathSignin, "status": "400"}, 6)
}

func TestServeEndsWithAnOpenConnection(t *testing.T) {
	r := start(t, func(timing *topology.Timing) { timing.RPCTimeout = topology.Duration(time.Second) })
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(r.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() // after the rig's clean-up, which must not wait for it
	if p := r.do("GET", PathPlans, nil, &[]sqldb.Plan{}); p.Kind != "" {
		t.Fatalf("%+v", p)
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Deps{}); services.KindOf(err) != services.Invalid {
		t.Errorf("New of nothing: %v", err)
	}
}
