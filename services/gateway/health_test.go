package gateway

import "testing"

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
