package gateway

import (
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// BenchmarkInbound is what the gateway itself adds to a request: every filter
// but the endpoint's call, on an exchange that is used again as the codec does.
// cpu-ns/op is processor time, which other work on the machine does not
// lengthen as it does ns/op.
func BenchmarkInbound(b *testing.B) {
	for name, header := range map[string][]string{
		"member":  {"Accept", "*/*", "User-Agent", "bench/1"},
		"browser": {"Accept", "*/*", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64)", "Accept-Encoding", "gzip", "Origin", "http://localhost:3000", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"},
	} {
		b.Run(name, func(b *testing.B) {
			e := benchGateway(b)
			e.set(FilterProperty("rate-limit", "client"), "1000000/s:1000000")
			half := 50.0
			e.setTable(Route{Name: "canary", Prefix: "/play", VIP: "canary", Percent: &half, When: "country in (CA, MX)"},
				Route{Name: "pin", Overlay: true, Members: []string{"m-pin"}, Instance: "us-east/a/play/9"})
			fields := append([]string{"Authorization", e.w.member("m-1")}, header...)
			h, answer := NewHeader(), NewHeader()
			peer := netip.MustParseAddrPort("198.18.0.7:4000")
			done := make([]func(*Exchange), 0, 8)
			e.stub = func(ex *Exchange) {
				answer.Reset()
				answer.Add("Content-Type", "application/json")
				ex.Response = Response{Status: 204, Header: answer}
			}
			b.ReportAllocs()
			start := cpuTime(b)
			var ex Exchange
			again := new(transaction)
			for b.Loop() {
				h.Reset()
				for k := 0; k < len(fields); k += 2 {
					h.Add(fields[k], fields[k+1])
				}
				ex = Exchange{ctx: b.Context(), Received: time.Now(), Peer: peer, done: done[:0], t: again, Request: Request{
					Method: "GET", Host: edgeHost, Path: "/play/start", Body: http.NoBody, TLS: true, Header: h,
				}}
				e.chain.run(&ex)
				ex.finish()
				if ex.Response.Status != 204 {
					b.Fatal(ex.Err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is the processor time of this process so far.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stubOrigin answers in place of the APIs.
func stubOrigin(d *Deps) {
	d.Filters = append(d.Filters, Filter{Name: "stub", Phase: Endpoint, Order: 6, Run: func(ex *Exchange) error {
		ex.Response = Response{Status: 204, Header: NewHeader()}
		return nil
	}})
}

// benched is a gateway whose answers are made by a function.
type benched struct {
	*edge
	stub func(*Exchange)
}

func benchGateway(b *testing.B) *benched {
	out := new(benched)
	out.edge = newWorld(b).gateway("us-east", func(d *Deps) {
		d.Filters = append(d.Filters, Filter{Name: "stub", Phase: Endpoint, Order: 6, Run: func(ex *Exchange) error { out.stub(ex); return nil }})
	})
	return out
}
