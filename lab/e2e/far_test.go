package e2e_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/flix-lab/flix/services/kv/kvpb"
)

// farRTT is the distance between the two regions of TestFarApart.
const farRTT = 400 * time.Millisecond

var rttLine = regexp.MustCompile(`rtt: \S+`)

// TestFarApart runs a lab whose two regions are far from each other, declared
// in a file made of the printed preset: what crosses the WAN must show it.
func TestFarApart(t *testing.T) {
	for _, rt := range runtimes(t) {
		t.Run(rt.Name, func(t *testing.T) {
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

// kvOf connects to a region's wide-column store, past the emulated WAN: an
// outside client is near every region.
func kvOf(l *lab, region string) kvpb.KVClient {
	l.t.Helper()
	conn, err := grpc.NewClient(l.addresses(region, "kv", "rpc")[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return kvpb.NewKVClient(conn)
}

func replicationTakesHalfTheRTT(l *lab) {
	t := l.t
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, way := range [][2]string{{"us-east", "us-west"}, {"us-west", "us-east"}} {
		from, to := kvOf(l, way[0]), kvOf(l, way[1])
		key := &kvpb.GetRequest{Namespace: "probe", Partition: "e2e", Sort: way[0]}
		if r, err := to.Get(ctx, key); err != nil || r.GetFound() {
			t.Fatalf("before the write: %v, %v", r, err)
		}
		start := time.Now()
		_, err := from.Write(ctx, &kvpb.WriteRequest{Namespace: key.Namespace, Partition: key.Partition, Cells: []*kvpb.Cell{{Sort: key.Sort, Value: []byte("here")}}})
		if err != nil {
			t.Fatal(err)
		}
		local := time.Since(start)
		if r, err := from.Get(ctx, key); err != nil || string(r.GetCell().GetValue()) != "here" {
			t.Errorf("%s does not read its own write: %v, %v", way[0], r, err)
		}
		awaitEvery(t, time.Millisecond, 10*time.Second, "the write to reach "+way[1], func() error {
			r, err := to.Get(ctx, key)
			if err == nil && !r.GetFound() {
				err = errors.New("it is not there")
			}
			return err
		})
		staleness := time.Since(start)
		t.Logf("%s → %s: acknowledged at home after %s, there after %s", way[0], way[1], local, staleness)
		if staleness < farRTT/2 {
			t.Errorf("%s → %s: readable after %s, light needs %s", way[0], way[1], staleness, farRTT/2)
		}
		if local >= farRTT/2 {
			t.Errorf("%s: a local write was acknowledged after %s, as if it had waited for the other region", way[0], local)
		}
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
