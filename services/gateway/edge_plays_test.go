package gateway

import (
	"net/http"
	"testing"
)

// Answers to clients that asked for a play to begin are counted by themselves,
// where they asked: neither another call, nor what a region passes on to another.
func TestEdgeCountsPlays(t *testing.T) {
	w := newWorld(t)
	east, west := w.gateway("us-east"), w.gateway("us-west")
	west.api("play", "us-west/a/play/1", echo("us-west"))
	east.api("play", "us-east/a/play/1", func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Fail") != "" {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	})
	c := east.client(eastClient, true)
	for _, q := range [][]string{{"POST", playPath}, {"POST", playPath, "Fail", "1"}, {"POST", playPath + "?q=1"}, {"GET", playPath}, {"POST", playPath + "/x", "Fail", "1"}} {
		ask(t, c, q[0], q[1], "", append(q[2:], "Authorization", w.member("m-1"))...)
	}
	east.set(PropertyEvacuate, `{"share":1,"savers":["us-west"]}`)
	ask(t, c, "POST", playPath, "", "Authorization", w.member("m-1"))
	eventually(t, "all are counted", func() bool { return east.Edge().ClientRequests == 6 && west.Edge().ProxiedIn == 1 })
	if r := east.Edge(); r.Plays != 4 || r.PlaysFailed != 1 {
		t.Errorf("%d plays, %d failed, want 4 and 1", r.Plays, r.PlaysFailed)
	}
	if r := west.Edge(); r.Plays != 0 {
		t.Errorf("%d plays where none was asked for by a client", r.Plays)
	}
}
