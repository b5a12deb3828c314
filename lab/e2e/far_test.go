package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

// farRTT is the distance between the two regions of TestFarApart.
const farRTT = 400 * time.Millisecond

var rttLine = regexp.MustCompile(`rtt: \S+`)

// TestFarApart runs a lab whose two regions are far from each other, declared
// in a file made of the printed preset: what crosses the WAN must show it.
func TestFarApart(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
			rt.seldom(t)
			l := prepare(t, rt)
			file := filepath.Join(t.TempDir(), "far.yaml")
			preset := l.must("lab", "topology", "show", "--regions", "2").stdout
			far := rttLine.ReplaceAllString(preset, "rtt: "+farRTT.String())
			if far == preset {
				t.Fatalf("the printed preset has no rtt:\n%s", tail(preset, 10))
			}
			if err := os.WriteFile(file, []byte(far), 0o600); err != nil {
				t.Fatal(err)
			}
			l.must("lab", "topology", "validate", file)
			l.up("--topology", file)
			t.Run("kv", func(t *testing.T) { replicationTakesHalfTheRTT(l.on(t)) })
			t.Run("proxy", func(t *testing.T) { proxiedRequestTakesTheRTT(l.on(t)) })
		})
	}
}

func replicationTakesHalfTheRTT(l *lab) {
	t := l.t
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, way := range [][2]string{{"us-east", "us-west"}, {"us-west", "us-east"}} {
		from, to := l.kv(way[0]), l.kv(way[1])
		if _, err := to.Get(ctx, kv.Probe, "e2e", way[0]); services.KindOf(err) != services.NotFound {
			t.Fatalf("before the write: %v", err)
		}
		if err := from.Put(ctx, kv.Probe, "warm", kv.Item{Sort: way[0], Value: []byte("up")}); err != nil {
			t.Fatal(err) // connections are made with the first write
		}
		start := time.Now()
		if err := from.Put(ctx, kv.Probe, "e2e", kv.Item{Sort: way[0], Value: []byte("here")}); err != nil {
			t.Fatal(err)
		}
		if i, err := from.Get(ctx, kv.Probe, "e2e", way[0]); err != nil || string(i.Value) != "here" {
			t.Errorf("%s does not read its own write: %v, %v", way[0], i, err)
		}
		awaitEvery(t, time.Millisecond, l.rt.patience(10*time.Second), "the write to reach "+way[1], func() error {
			_, err := to.Get(ctx, kv.Probe, "e2e", way[0])
			return err
		})
		staleness := time.Since(start)
		t.Logf("%s → %s: there after %s", way[0], way[1], staleness)
		if staleness < farRTT/2 {
			t.Errorf("%s → %s: readable after %s, light needs %s", way[0], way[1], staleness, farRTT/2)
		}
		l.wantLocal(from, way[0])
	}
}

// wantLocal fails if every one of many local writes takes as long as if it had
// waited for the other region. One may: the machine may stand still meanwhile.
func (l *lab) wantLocal(store kv.Store, region string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fastest := time.Hour
	for n := 0; n < 50 && fastest >= farRTT/2; n++ {
		start := time.Now()
		if err := store.Put(ctx, kv.Probe, "local", kv.Item{Sort: region, Value: []byte("here")}); err != nil {
			l.t.Fatal(err)
		}
		fastest = min(fastest, time.Since(start))
	}
	if fastest >= farRTT/2 {
		l.t.Errorf("%s: the fastest of many local writes was acknowledged after %s, as if it had waited for the other region", region, fastest)
	}
}

// proxiedRequestTakesTheRTT reads the hop between two regions' gateways off
// the traces of plays during an evacuation.
func proxiedRequestTakesTheRTT(l *lab) {
	t := l.t
	players := l.viewers(1, "us-east", 14)
	evacuation := l.start(nil, "failover", "us-east", "--yes", "-o", "json")
	var traces []string
	for running := true; running; {
		select {
		case <-evacuation.done:
			running = false
		default:
			if r := l.flix(append([]string{"play", "-o", "json"}, quick("us-east")...)...); r.code == 0 {
				var p playReport
				decode(t, r, &p)
				traces = append(traces, p.TraceID)
			} else {
				t.Errorf("a play during the evacuation failed: %s", r.story())
			}
		}
	}
	if r := evacuation.wait(); r.code != 0 {
		t.Errorf("the evacuation failed: %s", r.story())
	}
	r := players[0].wait()
	var p playReport
	decode(t, r, &p)
	hops := 0
	for _, id := range append(traces, p.TraceID) {
		for _, s := range read[traceReport](l, "trace", id).Spans {
			if !strings.HasPrefix(s.Instance, "us-east/") || !strings.Contains(s.Instance, "/gateway/") || s.Attributes["server.region"] != "us-west" {
				continue
			}
			hops++
			if s.took() < farRTT {
				t.Errorf("%s: %q to us-west took %s", s.Instance, s.Name, s.took())
			}
		}
	}
	if hops == 0 {
		t.Errorf("no trace of %d plays shows a request that us-east passed to us-west", len(traces)+1)
	}
	t.Logf("%d proxied requests in %d plays", hops, len(traces)+1)
	if r.code != 0 {
		t.Errorf("the player through it failed: %s", r.story())
	}
}
