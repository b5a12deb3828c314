package gateway

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A gateway whose certificate has expired says so on the plain way too, on which
// nobody sees the certificate.
func TestHealthWithAnExpiredCertificate(t *testing.T) {
	w := newWorld(t)
	good, bad := w.cert, w.certificate(time.Now().Add(-time.Minute))
	var expired atomic.Bool
	e := w.gateway("us-east", func(d *Deps) {
		d.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if expired.Load() {
				return &bad, nil
			}
			return &good, nil
		}}
	})
	for _, is := range []bool{false, true, false} {
		expired.Store(is)
		resp, err := http.Get("http://" + e.plainAddr + HealthPath)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || is != (resp.StatusCode == 503) || is != strings.Contains(string(body), "expired") {
			t.Errorf("expired %v: status %d, %s (%v)", is, resp.StatusCode, body, err)
		}
	}
}

// A check of health is answered by the region itself, also while it is left,
// and is no client that still comes to it.
func TestHealthChecksAreNoClients(t *testing.T) {
	_, east, _ := evacuating(t)
	c := east.client(eastClient, true)
	ask(t, c, "GET", "/play/x", "") // a client, though it is refused
	eventually(t, "the client to be counted", func() bool { return east.Edge().ClientRequests == 1 })
	before := east.Edge()
	for _, share := range []string{"0", "1"} {
		east.set(PropertyEvacuate, `{"share":`+share+`,"savers":["us-west"]}`)
		a := ask(t, c, "GET", HealthPath, "")
		if a.StatusCode != 200 || string(a.body) != "ok\n" || a.Header.Get("X-Flix-Region") != "us-east" {
			t.Errorf("share %s: status %d, body %q, from %q", share, a.StatusCode, a.body, a.Header.Get("X-Flix-Region"))
		}
	}
	eventually(t, "the checks to be over", func() bool { return east.Edge().InFlight == 0 })
	if after := east.Edge(); after.ClientRequests != before.ClientRequests || after.LastClientRequest != before.LastClientRequest || after.ProxiedOut != before.ProxiedOut {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// OPTIONS * asks about the gateway itself: it answers, whatever version of HTTP the
// client speaks, and neither a route to everything nor a page's origin changes that.
func TestOptionsOfTheWholeServer(t *testing.T) {
	for _, routes := range []string{"", `[{"prefix":"/","vip":"play","member":true}]`} {
		e := newWorld(t).gateway("us-east")
		e.set(PropertyRoutes, routes)
		c := e.raw(t)
		c.send("OPTIONS * HTTP/1.1\r\nHost: h\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n\r\n")
		resp, body := c.answer("OPTIONS")
		if resp.StatusCode != http.StatusOK || body != "" || resp.Header.Get("X-Flix-Region") != "us-east" || resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Close {
			t.Errorf("HTTP/1.1: %s, %q, %v", resp.Status, body, resp.Header)
		}
		c.send("GET * HTTP/1.1\r\nHost: h\r\n\r\n")
		if resp, _ := c.answer("GET"); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("HTTP/1.1: GET * is %s", resp.Status)
		}
		for method, want := range map[string]int{"OPTIONS": http.StatusOK, "GET": http.StatusBadRequest} {
			f := e.framer(t)
			writeHead(t, f, true, ":method", method, ":scheme", "https", ":authority", edgeHost, ":path", "*")
			if status, body := readAnswer(t, f); status != want || want == http.StatusOK && body != "" {
				t.Errorf("HTTP/2: %s * is %d, %q", method, status, body)
			}
		}
	}
}

// The answer is the same to everybody, tells nothing, and is open to no page; a
// route that has the path keeps it, with what it asks of a client.
func TestHealthAnswerOpensNothing(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	c := e.client(eastClient, true)
	header := []string{"Origin", "https://evil.example", "Authorization", "Bearer x.y", "X-Flix-Member", "m-1"}
	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		a := ask(t, c, method, HealthPath, "", append(header, "Access-Control-Request-Method", "GET")...)
		if a.StatusCode != 200 || a.body != "ok\n" || a.Header.Get("Access-Control-Allow-Origin") != "" || a.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: status %d, %q, %v", method, a.StatusCode, a.body, a.Header)
		}
	}
	for _, path := range []string{HealthPath + "/x", "/x" + HealthPath} {
		if a := ask(t, c, "GET", path, ""); a.StatusCode != 404 {
			t.Errorf("%s: status %d", path, a.StatusCode)
		}
	}
	e.set(PropertyRoutes, `[{"prefix":"/","vip":"play","member":true}]`)
	if a := ask(t, c, "GET", HealthPath, ""); a.StatusCode != 401 {
		t.Errorf("a route has the path: status %d", a.StatusCode)
	}
	eventually(t, "the requests to be counted", func() bool {
		return e.metric("gateway_requests_total", "route", "none", "status", "200", "origin_region", "us-east", "proxied_in", "no") == 3
	})
}
