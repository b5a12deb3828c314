package lab

import (
	"math"
	"testing"
	"time"
)

const workPage = `# HELP gateway_request_seconds Time
gateway_request_seconds_bucket{route="play",le="0.1"} 6
gateway_request_seconds_bucket{route="play",le="1"} 9
gateway_request_seconds_bucket{route="play",le="+Inf"} 10
gateway_request_seconds_sum{route="play"} 2.5
gateway_request_seconds_count{route="play"} 10
rpc_server_seconds_sum{method="/a/B"} 1
rpc_server_seconds_count{method="/a/B"} 4
go_gc_duration_seconds_sum{x="y"} 7
http_request_seconds_sum{route="GET /x"} NaN
`

func TestParseWork(t *testing.T) {
	w := parseWork([]byte(workPage))
	if len(w) != 2 || w[`route="play"`] != (timed{10, 2.5}) || w[`method="/a/B"`] != (timed{4, 1}) {
		t.Errorf("%v", w)
	}
}

func TestUsed(t *testing.T) {
	before := work{"a": {10, 1}, "stream": {0, 0}, "anew": {100, 50}}
	after := work{"a": {30, 5}, "stream": {1, 60}, "anew": {5, 1}}
	u := used(before, after, 2*time.Second, 10*time.Second)
	if u.answered != 25 || u.rate != 12.5 || u.concurrency != 2.5 {
		t.Errorf("%+v", u)
	}
}

func TestLatencies(t *testing.T) {
	l := latencies{}
	l.parse([]byte(workPage))
	if got := l.quantile(0.5, nil); got < 80 || got > 90 {
		t.Errorf("median %g ms", got)
	}
	if got := l.quantile(0.99, nil); got != 1000 {
		t.Errorf("p99 %g ms, want the last bound", got)
	}
	if got := l.quantile(0.99, l); got != 0 {
		t.Errorf("of nothing new: %g", got)
	}
}

func FuzzWorkPage(f *testing.F) {
	f.Add([]byte(workPage))
	f.Add([]byte("rpc_server_seconds_sum{ 3\nrpc_server_seconds_count} 1\ngateway_request_seconds_bucket{le=\"x\"} 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for route, w := range parseWork(b) {
			if !(w.count >= 0) || !(w.seconds >= 0) {
				t.Errorf("%q: %+v", route, w)
			}
		}
		l := latencies{}
		l.parse(b)
		if q := l.quantile(0.9, nil); q < 0 && len(l) > 0 && !math.IsInf(q, -1) {
			for bound := range l {
				if bound < 0 {
					return // bounds below 0 are nonsense, and so is the answer
				}
			}
			t.Errorf("a time of %g ms", q)
		}
	})
}
