package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/topology"
)

// TestContexts: clients put the API where their own configuration says.
func TestContexts(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 7)
	root := strings.TrimSuffix(f.url, "/eureka/v2")
	for _, context := range []string{"", "/v2", "/eureka", "/eureka/", "/eureka/v2", "/discovery/v2", "/my/own/context", "//eureka//v2/"} {
		f.url = root + context
		for _, path := range []string{"/apps", "/apps/", "/apps/delta", "/apps/kv/i-1", "/vips/kv", "/instances/i-1", "/status"} {
			f.want(http.StatusOK, "GET", path)
		}
		f.want(http.StatusOK, "PUT", "/apps/KV/i-1?status=UP&lastDirtyTimestamp=7")
	}
	f.url = root
	for _, path := range []string{"/", "/eureka", "/eureka/v2", "/a/b/c/d/apps", "/apps/a/b/c", "/apps/a/b/c/d/e", "/vips", "/asg/a"} {
		r := f.do("GET", "/eureka"+path, eureka.JSON, "")
		if r.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	r := f.do("POST", "/eureka/apps", eureka.JSON, "x")
	if r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("%d %q", r.status, r.header.Get("Allow"))
	}
}

// TestNamesInPaths: an id may hold what a path segment may not.
func TestNamesInPaths(t *testing.T) {
	f := start(t, topology.LabTiming())
	for _, id := range []string{"host:app:8080", "a b", "ü", "a/b", "100%"} {
		f.register("KV", id, "UP", 1)
		esc := strings.NewReplacer("%", "%25", " ", "%20", "/", "%2F", "ü", "%C3%BC").Replace(id)
		f.want(http.StatusOK, "GET", "/apps/KV/"+esc)
		f.want(http.StatusOK, "PUT", "/apps/KV/"+esc+"/status?value=DOWN")
		f.want(http.StatusOK, "DELETE", "/apps/KV/"+esc)
	}
}

func TestRenewalOfAStrangerHasNoBody(t *testing.T) {
	f := start(t, topology.LabTiming())
	if r := f.want(http.StatusNotFound, "PUT", "/apps/KV/i-1"); len(r.body) > 0 {
		t.Errorf("the original's client would take it for an instance: %s", r.body)
	}
}

func TestCompact(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 7)
	for _, accept := range []string{eureka.JSON, eureka.XML} {
		b := string(f.do("GET", "/apps", accept, "", "X-Eureka-Accept", "compact").body)
		for _, gone := range []string{"leaseInfo", "metadata", "overridden", "countryId", "lastDirty"} {
			if strings.Contains(b, gone) {
				t.Errorf("%s is in the short form %s", gone, b)
			}
		}
		if !strings.Contains(b, "vipAddress") || !strings.Contains(b, "actionType") {
			t.Errorf("short form %s", b)
		}
	}
}

// TestOverrideOfOneThatStarts: an operator's word counts at once, until the
// instance registers with a word of its own.
func TestOverrideOfOneThatStarts(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "STARTING", 1)
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1/status?value=UP")
	f.shows("i-1", "UP")
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1?lastDirtyTimestamp=1")
	f.shows("i-1", "UP")
	if b := f.want(http.StatusOK, "GET", "/serverinfo/statusoverrides").body; !bytes.Contains(b, []byte(`"i-1":"UP"`)) {
		t.Errorf("%s", b)
	}
	f.register("KV", "i-1", "DOWN", 2)
	f.shows("i-1", "DOWN")
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1/status?value=UP")
	f.shows("i-1", "UP")
}

func TestScalingGroup(t *testing.T) {
	f := start(t, topology.LabTiming())
	body := strings.Replace(stock("KV", "i-1", "UP", 1), `"app"`, `"asgName":"g-1","app"`, 1)
	if r := f.do("POST", "/apps/KV", eureka.JSON, body); r.status != http.StatusNoContent {
		t.Fatalf("%d %s", r.status, r.body)
	}
	f.want(http.StatusBadRequest, "PUT", "/asg/g-1/status?value=MAYBE")
	f.want(http.StatusOK, "PUT", "/asg/g-1/status?value=DISABLED")
	f.shows("i-1", "OUT_OF_SERVICE")
	if w := f.why("i-1"); w.Rule != "scaling_group" || w.Up {
		t.Errorf("%+v", w)
	}
	f.want(http.StatusOK, "PUT", "/asg/g-1/status?value=ENABLED")
	f.shows("i-1", "UP")
}

func TestLimits(t *testing.T) {
	f := startWith(t, topology.LabTiming(), func(d *registry.Deps) {
		d.Limits = registry.Limits{Fetches: 10, FullFetches: 1, Burst: 2}
	})
	f.register("KV", "i-1", "UP", 1)
	f.want(http.StatusOK, "GET", "/apps")
	f.want(http.StatusOK, "GET", "/apps")
	if r := f.want(http.StatusServiceUnavailable, "GET", "/apps"); r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	f.want(http.StatusServiceUnavailable, "GET", "/apps/delta") // both count
	for range 50 {                                              // heartbeats and registrations never do
		f.want(http.StatusOK, "PUT", "/apps/KV/i-1")
	}
	f.register("KV", "i-2", "UP", 1)
	f.want(http.StatusOK, "GET", "/apps", "DiscoveryIdentity-Name", "DefaultClient")
	f.clock.advance(200 * time.Millisecond)
	f.want(http.StatusOK, "GET", "/apps/delta")
	f.want(http.StatusServiceUnavailable, "GET", "/apps")
	f.clock.advance(2 * time.Second)
	f.want(http.StatusOK, "GET", "/apps")
	if n := f.counted(t, "registry_fetches_throttled_total", ""); n != 3 {
		t.Errorf("%v throttled, want 3", n)
	}
}

func (f *fixture) why(id string) registry.Why {
	f.t.Helper()
	var w registry.Why
	if err := json.Unmarshal(f.adminCall("GET", "/registry/why?id="+id, http.StatusOK), &w); err != nil {
		f.t.Fatal(err)
	}
	return w
}

func TestWhy(t *testing.T) {
	f := start(t, topology.ProductionTiming())
	expect := func(rule string, listed, up bool, says string) {
		t.Helper()
		w := f.why("i-1")
		if w.Rule != rule || w.Listed != listed || w.Up != up || !strings.Contains(strings.Join(w.Because, "\n"), says) {
			t.Errorf("%+v\nwant rule %s, listed %v, up %v, and %q", w, rule, listed, up, says)
		}
	}
	expect("never_seen", false, false, "has not registered here")
	f.register("KV", "i-1", "UP", 1)
	expect("reported", true, true, "the instance itself says UP")
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1/status?value=OUT_OF_SERVICE")
	expect("override", true, false, "an operator has set its status to OUT_OF_SERVICE")
	f.register("KV", "i-1", "STARTING", 2)
	expect("not_ready", true, false, "one that is not ready is believed")
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1/status")
	expect("reported", true, false, "STARTING")
	f.clock.advance(91 * time.Second)
	expect("reported", true, false, "its lease ran out 1s ago")
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1")
	expect("cancelled", false, false, "it cancelled its lease itself")
	f.register("KV", "i-1", "UP", 3)
	var gone registry.Why
	if err := json.Unmarshal(f.adminEvict(`{"id":"i-1"}`, http.StatusOK), &gone); err != nil || gone.ID != "i-1" || gone.App != "KV" || gone.Listed || gone.Up || gone.Rule != "by_hand" {
		t.Errorf("the eviction answers %+v, %v", gone, err)
	}
	// A name in error is not everybody.
	for _, body := range []string{`{"ids":"i-1"}`, `{"id":5}`, `i-1`} {
		if r := f.adminSend("POST", "/registry/evict", body); r.Code != http.StatusBadRequest || !strings.Contains(r.Body.String(), `\"id\":\"ID\"`) || strings.Contains(r.Body.String(), "unmarshal") {
			t.Errorf("evict %s: %d %s", body, r.Code, r.Body)
		}
	}
	expect("by_hand", false, false, "an operator evicted it")
	f.adminEvict(`{"id":"i-1"}`, http.StatusNotFound)
	f.register("KV", "i-1", "UP", 4)
	f.clock.advance(91 * time.Second)
	f.adminEvict("", http.StatusNoContent)
	expect("by_hand", false, false, "an operator evicted it")
}

// TestPreservationExplains: when leases that ran out are kept, it says why, of
// which threshold, and what each of them has to do with it.
func TestPreservationExplains(t *testing.T) {
	timing := topology.ProductionTiming()
	timing.EvictionInterval = topology.Duration(10 * time.Millisecond)
	f := start(t, timing)
	f.tel.Properties.Set(map[string]string{"registry.selfPreservation": "on", "registry.selfPreservation.other": "off"})
	for n := range 20 {
		f.register("KV", fmt.Sprintf("i-%d", n), "UP", 1)
	}
	for n := range 10 {
		f.want(http.StatusOK, "PUT", fmt.Sprintf("/apps/KV/i-%d", n))
	}
	p := f.explain().Preservation
	if p.Expected != 40 || p.Threshold != 34 || p.RenewsLastMinute != 10 || p.MayEvict != 3 || p.Preserving || p.Apps["other"] != "off" {
		t.Errorf("%+v", p)
	}
	f.clock.advance(time.Hour)
	eventually(t, func() error {
		f.clock.advance(time.Second)
		p = f.explain().Preservation
		if !p.Preserving || p.Since.IsZero() || p.RenewsLastMinute != 0 || !strings.Contains(p.Why, "20 of 20 leases have run out") {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	if w := f.why("i-3"); !w.Listed || !strings.Contains(strings.Join(w.Because, "\n"), "self-preservation keeps it") || !strings.Contains(w.Remedy, "evict") {
		t.Errorf("%+v", w)
	}
}

func (f *fixture) adminEvict(body string, status int) []byte {
	f.t.Helper()
	r := f.adminSend("POST", "/registry/evict", body)
	if r.Code != status {
		f.t.Fatalf("evict %s: %d %s", body, r.Code, r.Body)
	}
	return r.Body.Bytes()
}

// TestRenewals: the heartbeats of a process, in one request.
func TestRenewals(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 5)
	f.register("KV", "i-2", "UP", 5)
	f.clock.advance(2 * time.Second)
	body := `{"replicationList":[{"appName":"KV","id":"i-1","lastDirtyTimestamp":5,"action":"Heartbeat"},{"appName":"kv","id":"i-2","lastDirtyTimestamp":6,"action":"Heartbeat"},
		{"appName":"KV","id":"i-3","action":"Heartbeat"},{"appName":"KV","id":"i-1","action":"Cancel"}]}`
	r := f.do("PUT", "/renewals", eureka.JSON, body)
	out, err := eureka.DecodeOutcomes(r.body)
	if r.status != http.StatusOK || err != nil || fmt.Sprint(out.List) != "[{200 <nil>} {404 <nil>} {404 <nil>} {400 <nil>}]" {
		t.Fatalf("%d %s %v", r.status, r.body, err)
	}
	in, err := eureka.DecodeInstance(f.want(http.StatusOK, "GET", "/apps/KV/i-1").body, eureka.JSON)
	if err != nil || in.Lease.LastRenewal-in.Lease.Registered != 2000 {
		t.Errorf("%+v %v", in, err)
	}
	if r := f.do("PUT", "/renewals", eureka.JSON, "{"); r.status != http.StatusBadRequest {
		t.Errorf("%d", r.status)
	}
}
