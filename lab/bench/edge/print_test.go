package main

import (
	"strings"
	"testing"
	"time"
)

func TestRatiosAreOfOneRound(t *testing.T) {
	tb := newTable()
	for _, v := range []float64{100, 10, 40} { // a machine whose speed changes
		tb.add("haproxy", 15, "req/s", v)
		tb.add("flix", 15, "req/s", v*0.8)
		tb.add("haproxy", 15, "p99", v)
		tb.add("flix", 15, "p99", v*2)
	}
	got := map[string]string{}
	for _, r := range tb.ratios() {
		got[r.peer+" "+r.what] = r.verdict()
	}
	if got["haproxy req/s"] != "met" || got["haproxy p99"] != "missed" || len(got) != 2 {
		t.Errorf("%v", got)
	}
	var b strings.Builder
	tb.print(&b, config{connections: 1, rounds: 3}, &peers{measured: []*peer{{name: "haproxy"}, {name: "flix"}}, missing: []string{"caddy is missing"}})
	for _, want := range []string{"caddy is missing", "0.80", "≥ 0.75", "met", "missed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestMedianAndQuantile(t *testing.T) {
	tb := newTable()
	if tb.median("x", 0, "y") != 0 {
		t.Error("a median of nothing is not 0")
	}
	tb.add("x", 0, "y", 3)
	tb.add("x", 0, "y", 1)
	if m := tb.median("x", 0, "y"); m != 2 {
		t.Errorf("median %v", m)
	}
	var l latencies
	if l.quantile(0.99) != 0 {
		t.Error("a quantile of nothing is not 0")
	}
	for k := range 100 {
		l = append(l, time.Duration(100-k))
	}
	if q := l.quantile(0.99); q != 100 {
		t.Errorf("p99 %v", q)
	}
	if q := l.quantile(0.5); q != 51 {
		t.Errorf("p50 %v", q)
	}
}

func TestParseWrk(t *testing.T) {
	r, err := parseWrk("  105722 requests in 8.02s, 24.20MB read\nRequests/sec:  13182.78\n")
	if err != nil || r.requests != 105722 || r.perSecond != 13182.78 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "1 requests in 1s\nRequests/sec: 1\n  Non-2xx or 3xx responses: 1\n", "0 requests in 1s\nRequests/sec: 0\n"} {
		if _, err := parseWrk(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
