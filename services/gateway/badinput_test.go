package gateway

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/flix-lab/flix/services/token"
)

// A token that is over, not ours, or made for something else makes nobody a
// member; a route that asks for none answers as if there were none.
func TestTokensThatAreNoMembers(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("play", "us-east/a/play/1", echo("play"))
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	other, err := token.NewKey("test-lab", []byte(strings.Repeat("o", 32)))
	if err != nil {
		t.Fatal(err)
	}
	claims, now := token.Claims{Member: "m-1", Plan: "premium"}, time.Now()
	good := w.key.Sign(token.Member, claims, now, time.Hour)
	body, signature, _ := strings.Cut(good, ".")
	tokens := map[string]string{
		"expired":                  w.key.Sign(token.Member, claims, now.Add(-2*time.Hour), time.Hour),
		"of another key":           other.Sign(token.Member, claims, now, time.Hour),
		"with another's signature": body + "." + strings.Repeat("A", len(signature)),
		"with no signature":        body + ".",
		"for an appliance":         w.key.Sign(token.URL, claims, now, time.Hour),
		"for a stock player":       w.key.Sign(token.Stock, claims, now, time.Hour),
		"for the operator":         w.key.Sign(token.AdminKey, claims, now, time.Hour),
		"empty":                    "",
		"of no UTF-8":              "\xff\xfe.\xff",
	}
	for _, h2 := range []bool{false, true} {
		c := e.client(eastClient, h2)
		if a := ask(t, c, "GET", "/play/x", "", "Authorization", "Bearer "+good); a.StatusCode != 200 {
			t.Fatalf("h2=%t: a good token: status %d", h2, a.StatusCode)
		}
		for name, tok := range tokens {
			a := ask(t, c, "GET", "/play/x", "", "Authorization", "Bearer "+tok)
			if p := a.problem(t); a.StatusCode != 401 || p.Reason != ReasonNoToken {
				t.Errorf("h2=%t: a token %s: status %d, %+v", h2, name, a.StatusCode, p)
			}
			a = ask(t, c, "GET", "/signup/plans", "", "Authorization", "Bearer "+tok)
			if a.StatusCode != 200 || a.seen(t).Header.Get("X-Flix-Member") != "" {
				t.Errorf("h2=%t: a token %s is no matter where none is asked for: status %d", h2, name, a.StatusCode)
			}
		}
	}
}

// An API that no instance serves is told apart from one that there is not, and
// the gateway goes on.
func TestVIPWithoutServers(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	c := e.client(eastClient, true)
	for range 3 {
		a := ask(t, c, "GET", "/signup/plans", "")
		if p := a.problem(t); a.StatusCode != 502 || p.Reason != ReasonNoServers || p.Remedy == "" {
			t.Errorf("status %d, %+v", a.StatusCode, p)
		}
	}
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	if a := ask(t, c, "GET", "/signup/plans", ""); a.StatusCode != 200 {
		t.Errorf("once there is one: status %d", a.StatusCode)
	}
}

// Paths and fields of any bytes are passed on as they are or refused with an
// answer that is JSON; neither ends the gateway.
func TestBytesThatAreNoUTF8(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	for text, want := range map[string]int{
		"GET /signup/%ff%fe HTTP/1.1\r\nHost: x\r\n":                                                          200,
		"GET /signup/%c0%ae%c0%ae/play HTTP/1.1\r\nHost: x\r\n":                                               200, // an overlong dot is no dot
		"GET /nowhere/%ff HTTP/1.1\r\nHost: x\r\n":                                                            404,
		"GET /signup/%zz HTTP/1.1\r\nHost: x\r\n":                                                             400,
		"GET /signup/\xff HTTP/1.1\r\nHost: x\r\n":                                                            400,
		"GET /signup/plans?q=\xff HTTP/1.1\r\nHost: x\r\n":                                                    400,
		"GET /signup/plans?q=%ff HTTP/1.1\r\nHost: x\r\n":                                                     200,
		"GET /signup/plans HTTP/1.1\r\nHost: \xff\r\n":                                                        400,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Re\xffquest: a\r\n":                                       400,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Other: \xff\xfe\r\n":                                      200,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xff\r\n":                                     200,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nTraceparent: \xff\r\n":                                      200,
		"GET /signup/plans HTTP/1.1\r\nHost: x\r\nX-Flix-Debug: \xff.\xff\r\n":                                0, // by TestDebug…; here only that it is answered
		"OPTIONS /signup/plans HTTP/1.1\r\nHost: x\r\nOrigin: \xff\r\nAccess-Control-Request-Method: GET\r\n": 403,
	} {
		client := e.raw(t)
		client.send("%s", text+"Connection: close\r\n\r\n")
		resp, body := client.answer(http.MethodGet)
		status := resp.StatusCode
		if status != want && want != 0 || status < 200 {
			t.Errorf("%q: status %d, want %d: %.200q", text, status, want, body)
		}
		if status >= 400 && (!json.Valid([]byte(body)) || !utf8.ValidString(body)) {
			t.Errorf("%q: the refusal is no JSON: %q", text, body)
		}
	}
	// What is passed on is what came.
	client := e.raw(t)
	client.send("%s", "GET /signup/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	_, body := client.answer(http.MethodGet)
	if !strings.Contains(body, "/signup/%ff") && !strings.Contains(body, "/signup/%FF") {
		t.Errorf("the API saw %s", body)
	}
}
