package gateway

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/token"
)

func TestDetailOnlyForASignedHeader(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	c := e.client(eastClient, true)
	for name, tok := range map[string]string{
		"none": "", "unsigned": "1", "a member's": strings.TrimPrefix(w.member("m"), "Bearer "),
		"expired":       w.key.Sign(token.Debug, token.Claims{}, time.Now().Add(-time.Hour), time.Minute),
		"another lab's": otherKey(t).Sign(token.Debug, token.Claims{}, time.Now(), time.Hour),
	} {
		a := ask(t, c, "GET", "/signup/plans", "", DebugHeader, tok)
		for _, h := range []string{attemptsHeader, filtersHeader, passportHeader, zuulStatusHeader, zuulAttemptsHeader, zuulFiltersHeader} {
			if a.StatusCode != 200 || a.Header.Get(h) != "" {
				t.Errorf("%s: status %d, %s: %q", name, a.StatusCode, h, a.Header.Get(h))
			}
		}
		if a.seen(t).Header.Get(DebugHeader) != "" {
			t.Errorf("%s: the API got it", name)
		}
	}
	if n := e.metric("gateway_refused_total", "reason", "debug"); n != 4 {
		t.Errorf("%v bad tokens counted", n)
	}
	a := ask(t, c, "GET", "/signup/plans", "", DebugHeader, w.debug(), "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	var runs []FilterRun
	if err := json.Unmarshal([]byte(a.Header.Get(filtersHeader)), &runs); err != nil || len(runs) < 15 || runs[0].Filter != "metrics" {
		t.Errorf("filters %v, %v", runs, err)
	}
	for h, want := range map[string]string{
		attemptsHeader: `"outcome":"answered"`, passportHeader: "=IN_RESP_HEADERS_RECEIVED", routeHeader: "signup", traceHeader: "4bf92f3577b34da6a3ce929d0e0e4736",
		zuulStatusHeader: "SUCCESS", zuulAttemptsHeader: "us-east/a/signup/1", zuulInstanceHeader: "us-east/a/gateway/1", zuulFiltersHeader: "origin[SUCCESS][",
	} {
		if !strings.Contains(a.Header.Get(h), want) {
			t.Errorf("%s: %q", h, a.Header.Get(h))
		}
	}
	a = ask(t, c, "GET", "/play/x", "", DebugHeader, w.debug())
	if a.Header.Get(zuulStatusHeader) != "FAILURE_CLIENT_DENIED" || a.Header.Get(zuulCauseHeader) != ReasonNoToken || a.Header.Get(attemptsHeader) != "[]" {
		t.Errorf("a refusal: %v", a.Header)
	}
	if runs := a.Header.Get(zuulFiltersHeader); !strings.Contains(runs, "route[SUCCESS][") || !strings.Contains(runs, "authorize[FAILED][") {
		t.Errorf("the filters of a refusal: %s", runs)
	}
	if a.Header.Get(overlayHeader) != "" {
		t.Errorf("no overlay, and yet %v", a.Header)
	}
	e.setTable(Route{Name: "canary", Overlay: true, Prefix: "/signup", VIP: "signup"})
	if a = ask(t, c, "GET", "/signup/plans", "", DebugHeader, w.debug()); a.Header.Get(routeHeader) != "signup" || a.Header.Get(overlayHeader) != "canary" {
		t.Errorf("beneath an overlay: %v", a.Header)
	}
}

func otherKey(t *testing.T) token.Key {
	t.Helper()
	k, err := token.NewKey("other-lab", []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestDetailCrossesRegions: both gateways tell their part.
func TestDetailCrossesRegions(t *testing.T) {
	w, east, _ := evacuating(t)
	east.set(PropertyEvacuate, `{"share":1,"savers":["us-west"]}`)
	a := ask(t, east.client(eastClient, true), "GET", "/signup/plans", "", DebugHeader, w.debug())
	got := a.Header.Values(attemptsHeader)
	if len(got) != 2 || !strings.Contains(got[0], "us-west/a/signup/1") && !strings.Contains(got[0], "us-west/a/play/1") && !strings.Contains(got[0], `"region":"us-east"`) || !strings.Contains(got[1], "us-west/a/gateway/1") {
		t.Errorf("attempts %q", got)
	}
	if a.Header.Get("X-Flix-Status") != "SUCCESS" || len(a.Header.Values(passportHeader)) != 2 {
		t.Errorf("header %v", a.Header)
	}
}

// TestCategories is the contract of the header X-Flix-Status; names and ids are
// Zuul's where it has them.
func TestCategories(t *testing.T) {
	for reason, want := range map[string]string{
		ReasonNoServers: "FAILURE_ORIGIN_NO_SERVERS 2_14", ReasonConnect: "FAILURE_ORIGIN_CONNECTIVITY 2_4", ReasonReset: "FAILURE_ORIGIN_RESET_CONNECTION 2_15",
		ReasonTimeout: "FAILURE_ORIGIN_READ_TIMEOUT 2_3", ReasonConcurrency: "FAILURE_LOCAL_THROTTLED_ORIGIN_CONCURRENCY 2_8",
		ReasonNoRoute: "SUCCESS_LOCAL_NO_ROUTE 1_5", ReasonClientGone: "FAILURE_CLIENT_CANCELLED 2_13", ReasonSlowBody: "FAILURE_CLIENT_TIMEOUT 2_18", ReasonTooLarge: "FAILURE_CLIENT_BAD_REQUEST 2_12",
	} {
		c := categorize(&Exchange{Err: services.Errorf(services.Unavailable, "x").WithReason(reason)})
		if got := c.String() + " " + c.ID(); got != want {
			t.Errorf("%s: %s, want %s", reason, got, want)
		}
	}
	for status, want := range map[int]string{
		200: "SUCCESS 1_1", 302: "SUCCESS 1_1", 400: "SUCCESS 1_1", 404: "SUCCESS_NOT_FOUND 1_3", 500: "FAILURE_ORIGIN 2_2", 503: "FAILURE_ORIGIN_THROTTLED 2_6",
	} {
		c := categorize(&Exchange{Response: Response{Status: status}})
		if got := c.String() + " " + c.ID(); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
	for kind, want := range map[services.Kind]Category{services.Invalid: FailureClientBadRequest, services.Denied: FailureClientDenied, services.Internal: FailureLocal} {
		if got := categorize(&Exchange{Err: services.Errorf(kind, "x")}); got != want {
			t.Errorf("%s: %s", kind, got)
		}
	}
	ids := map[string]Category{}
	for c := range categories {
		if other, ok := ids[c.ID()]; ok {
			t.Errorf("%s and %s share the id %s", c, other, c.ID())
		}
		ids[c.ID()] = c
	}
	for reason := range statusByReason {
		if _, ok := categoryByReason[reason]; !ok {
			t.Errorf("%s has a status and no category", reason)
		}
	}
}

func TestParseTraceparent(t *testing.T) {
	const tid, sid = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for h, want := range map[string]bool{
		"00-" + tid + "-" + sid + "-01": true, "00-" + tid + "-" + sid + "-00": true, "cc-" + tid + "-" + sid + "-01": true, "cc-" + tid + "-" + sid + "-01-more": true,
		"": false, "00-" + tid + "-" + sid: false, "ff-" + tid + "-" + sid + "-01": false, "00-" + tid + "-" + sid + "-01-more": false, "cc-" + tid + "-" + sid + "-01more": false,
		"00-" + strings.Repeat("0", 32) + "-" + sid + "-01": false, "00-" + tid + "-" + strings.Repeat("0", 16) + "-01": false,
		"00-" + strings.ToUpper(tid) + "-" + sid + "-01": false, "00-" + tid + "-" + sid + "-0x": false, "00_" + tid + "-" + sid + "-01": false,
	} {
		sc, ok := parseTraceparent(h)
		if ok != want || (ok && (sc.TraceID().String() != tid || sc.SpanID().String() != sid || sc.IsSampled() != strings.Contains(h[52:], "-01") || !sc.IsRemote())) {
			t.Errorf("%q: %t, %+v", h, ok, sc)
		}
	}
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x")
	f.Fuzz(func(t *testing.T, h string) {
		if sc, ok := parseTraceparent(h); ok && (!sc.IsValid() || !strings.Contains(h, sc.TraceID().String()) || !strings.Contains(h, sc.SpanID().String())) {
			t.Errorf("%q is %+v", h, sc)
		}
	})
}

// TestTracesAreSampledPerSecond: a trace of its own begins so many times a
// second; one that a client began is always followed, and a bad one never.
func TestTracesAreSampledPerSecond(t *testing.T) {
	e := newWorld(t).gateway("us-east", stubOrigin)
	e.set(FilterProperty("trace", "sample"), "3") // nothing else asks: the second is that of Received
	at := time.Now()
	send := func(parent string) *Exchange {
		ex := e.request("/play/x", traceparentHeader, parent)
		ex.Received = at
		e.chain.run(ex)
		ex.finish()
		if ex.TraceID() == "" {
			t.Error("a request without a trace id")
		}
		return ex
	}
	traced := 0
	for range 10 {
		if send("nonsense").Traced() {
			traced++
		}
	}
	if traced != 3 {
		t.Errorf("%d of 10 begin a trace", traced)
	}
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	if ex := send("00-" + id + "-00f067aa0ba902b7-01"); !ex.Traced() || ex.TraceID() != id {
		t.Errorf("a sampled trace: %t %s", ex.Traced(), ex.TraceID())
	}
	if ex := send("00-" + id + "-00f067aa0ba902b7-00"); ex.Traced() || ex.TraceID() != id {
		t.Errorf("one that is not sampled: %t %s", ex.Traced(), ex.TraceID())
	}
	at = at.Add(time.Second)
	if ex := send(""); !ex.Traced() {
		t.Error("none begins in the next second")
	}
	spans := e.tel.Spans(id)
	if len(spans) != 1 || !strings.Contains(spans[0].Attributes["passport"], "FILTERS_OUTBOUND_END") || spans[0].Attributes["status.category"] != "SUCCESS" || spans[0].Attributes["http.route"] != "play" {
		t.Errorf("spans %+v", spans)
	}
}

// TestTokenCacheForgetsNothingThatMatters: a token is good exactly as long as
// without the cache.
func TestTokenCache(t *testing.T) {
	w := newWorld(t)
	c := newTokenCache()
	now := time.Now()
	tok := w.key.Sign(token.Member, token.Claims{Member: "m-1"}, now, time.Minute)
	for range 2 {
		if got, err := c.verify(w.key, tok, now); err != nil || got.Member != "m-1" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if _, err := c.verify(w.key, tok, now.Add(time.Minute)); services.ReasonOf(err) != "token_expired" {
		t.Errorf("after its end: %v", err)
	}
	other := "A" // in place of a letter that counts: the last one's bits need not all
	if tok[len(tok)-2] == 'A' {
		other = "B"
	}
	if _, err := c.verify(w.key, tok[:len(tok)-2]+other+tok[len(tok)-1:], now); err == nil {
		t.Error("another signature is taken")
	}
	if _, err := c.verify(w.key, w.key.Sign(token.Debug, token.Claims{}, now, time.Hour), now); services.ReasonOf(err) != "token_forged" {
		t.Errorf("another audience: %v", err)
	}
}
