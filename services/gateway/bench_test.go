package gateway

import (
	"net/http"
	"testing"
	"time"
)

// BenchmarkInbound is what the gateway itself adds to a request: every filter
// but the endpoint's call.
func BenchmarkInbound(b *testing.B) {
	e := benchGateway(b)
	tok := e.w.member("m-1")
	b.ReportAllocs()
	for b.Loop() {
		ex := &Exchange{ctx: b.Context(), Received: time.Now(), Request: Request{
			Method: "GET", Host: edgeHost, Path: "/play/start", Body: http.NoBody, TLS: true,
			Header: NewHeader("Authorization", tok, "Accept", "*/*"),
		}}
		e.chain.run(ex)
		ex.finish()
		if ex.Response.Status != 204 {
			b.Fatal(ex.Err)
		}
	}
}

func benchGateway(b *testing.B) *edge {
	w := newWorld(b)
	return w.gateway("us-east", func(d *Deps) {
		d.Filters = []Filter{{Name: "stub", Phase: Endpoint, Run: func(ex *Exchange) error {
			ex.Response = Response{Status: 204, Header: NewHeader()}
			return nil
		}}}
	})
}
