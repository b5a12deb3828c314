package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/flix-lab/flix/services/token"
)

func evacuating(t *testing.T) (w *world, east, west *edge) {
	t.Helper()
	w = newWorld(t)
	east, west = w.gateway("us-east"), w.gateway("us-west")
	for _, e := range []*edge{east, west} {
		e.api("play", e.d.Region+"/a/play/1", echo(e.d.Region))
		e.api("signup", e.d.Region+"/a/signup/1", echo(e.d.Region))
	}
	return w, east, west
}

func TestEvacuationOfEverything(t *testing.T) {
	w, east, west := evacuating(t)
	c := east.client(eastClient, true)
	if a := ask(t, c, "GET", "/play/x", "", "Authorization", w.member("m-1")); a.seen(t).By != "us-east" {
		t.Fatal("before the evacuation the request is answered elsewhere")
	}
	east.set(PropertyEvacuate, `{"share":1,"savers":["us-west"]}`)
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	a := ask(t, c, "POST", "/play/x", "body", "Authorization", w.member("m-1"), "Traceparent", "00-"+id+"-00f067aa0ba902b7-01", "X-Request-Id", "r1", DebugHeader, w.debug())
	s := a.seen(t)
	if s.By != "us-west" || s.Body != "body" || s.Header.Get("X-Flix-Client-Ip") != "198.18.0.7" || s.Header.Get("X-Flix-Isp") != "us-east-isp-1" || s.Header.Get("X-Request-Id") != "r1" {
		t.Errorf("us-west's API saw %+v", s)
	}
	if s.Header.Get(viaHeader) != "" {
		t.Error("the proof reached the API")
	}
	if a.Header.Get("X-Flix-Region") != "us-west" || a.Header.Get("X-Flix-Gateway") != "us-west/a/gateway/1" || a.Header.Get("X-Flix-Proxied-By") != "us-east/a/gateway/1" {
		t.Errorf("header %v", a.Header)
	}
	if a := ask(t, c, "GET", "/play/x", ""); a.StatusCode != 401 || a.Header.Get("X-Flix-Region") != "us-west" {
		t.Errorf("a refusal: %d from %s, want 401 from us-west", a.StatusCode, a.Header.Get("X-Flix-Region"))
	}
	eventually(t, "the hop is a span", func() bool {
		for _, sp := range east.tel.Spans(id) {
			if sp.Name == "proxy us-east→us-west" && sp.Kind == "client" {
				return true
			}
		}
		return false
	})
	eventually(t, "us-west continues the trace", func() bool { return len(west.tel.Spans(id)) > 0 })
	for _, m := range []struct {
		e      *edge
		labels []string
		want   float64
	}{
		{east, []string{"route", "play", "status", "200", "origin_region", "us-west", "proxied_in", "no"}, 1},
		{west, []string{"route", "play", "status", "200", "origin_region", "us-west", "proxied_in", "yes"}, 1},
		{west, []string{"status", "401", "proxied_in", "yes"}, 1},
	} {
		eventually(t, fmt.Sprint(m.e.d.Region, m.labels), func() bool { return m.e.metric("gateway_requests_total", m.labels...) == m.want })
	}
}

func TestEvacuationStopsLoops(t *testing.T) {
	w, east, west := evacuating(t)
	east.set(PropertyEvacuate, `{"share":1,"savers":["us-west"]}`)
	west.set(PropertyEvacuate, `{"share":1,"savers":["us-east"]}`)
	for region, c := range map[string]*http.Client{"us-west": east.client(eastClient, true), "us-east": west.client(westClient, true)} {
		if a := ask(t, c, "GET", "/play/x", "", "Authorization", w.member("m-1")); a.StatusCode != 200 || a.seen(t).By != region {
			t.Errorf("status %d, %s; want an answer from %s after one hop", a.StatusCode, a.body, region)
		}
	}
	for _, e := range []*edge{east, west} {
		eventually(t, "one in, one out", func() bool {
			r := e.Edge()
			return r.ProxiedIn == 1 && r.ProxiedOut == 1 && r.ClientRequests == 1 && r.InFlight == 0
		})
	}
}

func TestOnlyAGatewaysProofIsBelieved(t *testing.T) {
	w, east, _ := evacuating(t)
	c := east.client(eastClient, false)
	sign := func(aud token.Audience, ttl time.Duration) string {
		return w.key.Sign(aud, token.Claims{Member: "us-west/a/gateway/1", Client: "198.18.64.9"}, time.Now(), ttl)
	}
	for name, tt := range map[string]struct{ via, ip string }{
		"good":           {sign(token.Discharge, time.Minute), "198.18.64.9"},
		"expired":        {sign(token.Discharge, -time.Minute), "198.18.0.7"},
		"other audience": {sign(token.Member, time.Minute), "198.18.0.7"},
		"garbage":        {"garbage", "198.18.0.7"},
	} {
		if s := ask(t, c, "GET", "/signup/plans", "", viaHeader, tt.via).seen(t); s.Header.Get("X-Flix-Client-Ip") != tt.ip {
			t.Errorf("%s: the client is %s, want %s", name, s.Header.Get("X-Flix-Client-Ip"), tt.ip)
		}
	}
}

func TestEvacuationShareIsSticky(t *testing.T) {
	w, east, _ := evacuating(t)
	c := east.client(eastClient, true)
	gone := make(map[string]bool)
	for _, share := range []float64{0, 0.3, 0.7, 1} {
		b, err := json.Marshal(Evacuation{Share: share, Savers: []string{"us-west"}})
		if err != nil {
			t.Fatal(err)
		}
		east.set(PropertyEvacuate, string(b))
		n := 0
		for i := range 60 {
			m := fmt.Sprintf("m-%d", i)
			away := ask(t, c, "GET", "/play/x", "", "Authorization", w.member(m)).seen(t).By == "us-west"
			if gone[m] && !away {
				t.Errorf("share %v: %s is back", share, m)
			}
			gone[m] = away
			if away {
				n++
			}
		}
		if math.Abs(float64(n)/60-share) > 0.2 {
			t.Errorf("share %v sent %d of 60 away", share, n)
		}
	}
	east.set(PropertyEvacuate, "")
	if by := ask(t, c, "GET", "/play/x", "", "Authorization", w.member("m-1")).seen(t).By; by != "us-east" {
		t.Errorf("after the evacuation %s answers", by)
	}
}

func TestEvacuationTakesTheNextSaver(t *testing.T) {
	w, east, west := evacuating(t)
	eu := w.gateway("eu-west")
	eu.api("play", "eu-west/a/play/1", echo("eu-west"))
	// us-west is nearest. Its gateway is gone, but still listed.
	east.set(PropertyEvacuate, `{"share":1,"savers":["eu-west","us-west"]}`)
	c := east.client(eastClient, true)
	play := func() answer {
		t.Helper()
		return ask(t, c, "POST", "/play/x", "body", "Authorization", w.member("m-1"))
	}
	if by := play().seen(t).By; by != "us-west" {
		t.Errorf("%s answers, want the nearest saver", by)
	}
	west.stop()
	east.transports.remote.CloseIdleConnections()
	if by := play().seen(t).By; by != "eu-west" {
		t.Errorf("%s answers, want the next saver", by)
	}
	eu.stop()
	east.transports.remote.CloseIdleConnections()
	a := play()
	if a.seen(t).By != "us-east" || a.Header.Get("X-Flix-Region") != "us-east" {
		t.Errorf("no saver is left: %s", a.body)
	}
	if n := east.metric("gateway_evacuation_stayed_total"); n != 1 {
		t.Errorf("%v requests counted as stayed", n)
	}
}

func TestBadEvacuationIsRefused(t *testing.T) {
	for _, text := range []string{"{", `{"share":2,"savers":["a"]}`, `{"share":-0.1}`, `{"share":0.5}`, `{"share":0.5,"savers":[""]}`, `[]`} {
		if _, err := ParseEvacuation(text); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
	e := newWorld(t).gateway("us-east")
	e.set(PropertyEvacuate, `{"share":0.5,"savers":["us-west"]}`)
	e.set(PropertyEvacuate, `{"share":5}`)
	if got := e.settings.evacuation.Load().Share; got != 0.5 {
		t.Errorf("a bad plan changed the share to %v", got)
	}
}

func TestEdgeReport(t *testing.T) {
	w, east, _ := evacuating(t)
	before := time.Now().UnixMilli()
	ask(t, east.client(eastClient, true), "GET", "/play/x", "", "Authorization", w.member("m-1"))
	mux := http.NewServeMux()
	east.RegisterAdmin(mux, "key")
	get := func(auth string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/edge", nil)
		r.Header.Set("Authorization", auth)
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		return rec
	}
	if rec := get("Bearer wrong"); rec.Code != 401 {
		t.Errorf("without the key: %d", rec.Code)
	}
	eventually(t, "the report shows the request", func() bool {
		var got map[string]float64
		if err := json.Unmarshal(get("Bearer key").Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got["client_requests"] == 1 && got["last_client_request_unix_ms"] >= float64(before) && got["proxied_out"] == 0 && got["proxied_in"] == 0 && got["inflight"] == 0 && got["answered"] >= 1 && got["busy_seconds"] > 0 && got["concurrency"] == defaultConcurrency && got["failed"] == 0 && len(got) == 11
	})
}
