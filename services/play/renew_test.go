package play

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flix-lab/flix/services"
)

func TestRenew(t *testing.T) {
	r := start(t)
	first, p := r.post(PathStart, ask())
	if p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	q := RenewRequest{Session: "s1", Title: "tt-a", License: first.License, Device: "tv", Broken: []string{"us-east/isp-1/oca/1"}}
	got, p := r.post(PathRenew, q)
	if p.Kind != "" || got.License == "" || got.Name != "Harbor Lights" || len(got.Appliances) != 2 {
		t.Fatalf("%+v %+v", got, p)
	}
	if !cmp.Equal(r.rank.GetExclude(), q.Broken) || r.authorize.GetDevice() != "tv" {
		t.Errorf("ranked %v, authorised %v", r.rank, r.authorize)
	}
	for name, spoil := range map[string]func(*RenewRequest){
		"another session": func(q *RenewRequest) { q.Session = "s2" }, "another title": func(q *RenewRequest) { q.Title = "tt-b" },
		"no licence": func(q *RenewRequest) { q.License = "none" }, "forged": func(q *RenewRequest) { q.License += "x" },
	} {
		wrong := q
		spoil(&wrong)
		if _, p := r.post(PathRenew, wrong); p.Kind != services.Denied {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for name, device := range map[string]string{"another device": "phone", "the token's device": ""} {
		wrong := q
		wrong.Device = device
		if _, p := r.post(PathRenew, wrong); p.Kind != services.Denied || p.Reason != "license_binding" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	r.header["X-Flix-Country"] = "GB"
	if _, p := r.post(PathRenew, q); p.Kind != services.Denied || p.Reason != "license_binding" {
		t.Errorf("from another country: %+v", p)
	}
	r.header["X-Flix-Country"] = "US"
	r.header["X-Flix-Member"] = "m2"
	if _, p := r.post(PathRenew, q); p.Kind != services.Denied {
		t.Errorf("another member: %+v", p)
	}
}

// A play whose licence was released is over: asking whether it is allowed would
// count it among the member's streams again.
func TestRenewOfAReleasedLicenceOpensNoStream(t *testing.T) {
	r := start(t)
	first, _ := r.post(PathStart, ask())
	r.breaks("Renew", services.Errorf(services.Denied, "the licence has been released").WithReason("license_released"))
	r.mu.Lock()
	r.authorize = nil
	r.mu.Unlock()
	q := RenewRequest{Session: "s1", Title: "tt-a", License: first.License, Device: "tv"}
	if _, p := r.post(PathRenew, q); p.Kind != services.Denied || p.Reason != "license_released" {
		t.Errorf("%+v", p)
	}
	if r.authorize != nil {
		t.Errorf("it was authorised: %v", r.authorize)
	}
	r.breaks("Renew", services.Errorf(services.Unavailable, "down"))
	r.breaks("Authorize", services.Errorf(services.Denied, "no").WithReason("plan_stream_limit"))
	if _, p := r.post(PathRenew, q); p.Reason != "plan_stream_limit" {
		t.Errorf("with the licences out of reach: %+v", p)
	}
}
