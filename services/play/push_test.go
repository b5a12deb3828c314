package play

import (
	"bufio"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/steering/steeringpb"
)

// moved is an order that another appliance has come first in.
func moved() *steeringpb.RankReply {
	return &steeringpb.RankReply{Version: 3, Candidates: []*steeringpb.Candidate{
		{Appliance: "us-east/isp-1/oca/2", PlainUrl: "http://oca-2-isp-1.localhost:2236"},
		{Appliance: "us-east/isp-1/oca/1", PlainUrl: "http://oca-1-isp-1.localhost:2234", Rank: 1},
	}}
}

// listening is an event stream and what it has said.
type listening struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
}

func (r *rig) listen(path string) *listening {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return &listening{r.t, resp, bufio.NewScanner(resp.Body)}
}

// next is the next event's manifest; ok is false at the end.
func (l *listening) next() (m SteeringManifest, ok bool) {
	l.t.Helper()
	for l.lines.Scan() {
		if data, found := strings.CutPrefix(l.lines.Text(), "data: "); found {
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				l.t.Fatalf("%s: %v", data, err)
			}
			return m, true
		}
	}
	return m, false
}

func TestEvents(t *testing.T) {
	r, stock, _ := titled(t)
	l := r.listen(stock.Events + "?format=dash&hosts=address&pathways=us-east.isp-1.oca.1")
	if l.resp.StatusCode != 200 || l.resp.Header.Get("Content-Type") != typeEvents || l.resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%s %v", l.resp.Status, l.resp.Header)
	}
	if m, ok := l.next(); !ok || !slices.Equal(m.Priority, []string{"us-east.isp-1.oca.1"}) {
		t.Errorf("at first %+v, %v", m, ok)
	}
	r.orders <- moved()
	want := []PathwayClone{{BaseID: "us-east.isp-1.oca.1", ID: "us-east.isp-1.oca.2", Replacement: URIReplacement{Host: "http://127.0.0.1:2236"}}}
	if m, ok := l.next(); !ok || !slices.Equal(m.Priority, []string{"us-east.isp-1.oca.2", "us-east.isp-1.oca.1"}) || !slices.Equal(m.Clones, want) {
		t.Errorf("then %+v, %v", m, ok)
	}
	// The end of the play is that of the stream.
	if _, p := r.post(PathReport, ReportRequest{Session: ask().Session, Title: "tt-a", Kind: kindStop}); p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	if m, ok := l.next(); ok {
		t.Errorf("after the play's end: %+v", m)
	}
}

func TestTooManyListen(t *testing.T) {
	r, stock, _ := titled(t)
	for range maxFollowing {
		if _, ok := r.listen(stock.Events).next(); !ok {
			t.Fatal("no event")
		}
	}
	if resp, body := r.fetch(stock.Events); resp.StatusCode != services.Exhausted.HTTPStatus() || !strings.Contains(body, "too_many_followers") {
		t.Errorf("one more: %s %s", resp.Status, body)
	}
	// A question that may wait does not, then.
	if resp, body := r.fetch(stock.Steering + "?wait=30&_HLS_pathway=us-east.isp-1.oca.1"); resp.StatusCode != 200 || !strings.Contains(body, `"TTL":20`) {
		t.Errorf("one that waits: %s %s", resp.Status, body)
	}
	if resp, body := r.fetch(strings.Replace(stock.Events, PathStock, PathStock+"x", 1)); resp.StatusCode != 403 {
		t.Errorf("a forged token: %s %s", resp.Status, body)
	}
}

func TestWait(t *testing.T) {
	r, stock, _ := titled(t)
	type answer struct {
		status int
		body   string
	}
	asked := make(chan answer, 1)
	go func() {
		resp, body := r.fetch(stock.Steering + `?wait=30&_DASH_pathway="us-east.isp-1.oca.1"`)
		asked <- answer{resp.StatusCode, body}
	}()
	r.orders <- moved() // somebody takes it only once the question waits
	got := <-asked
	var m SteeringManifest
	if err := json.Unmarshal([]byte(got.body), &m); err != nil || got.status != 200 || m.TTL != heldTTL || m.Priority[0] != "us-east.isp-1.oca.2" {
		t.Errorf("%d %q: %v", got.status, got.body, err)
	}
	// Its first question keeps no player from beginning.
	_, body := r.fetch(stock.Steering + "?wait=30&pathways=us-east.isp-1.oca.1")
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.TTL != heldTTL || m.Priority[0] != "us-east.isp-1.oca.1" {
		t.Errorf("%q: %v", body, err)
	}
	// A player that should move already is told so at once, and asked back soon.
	_, body = r.fetch(stock.Steering + `?wait=30&_HLS_pathway=us-east.ix.oca.1`)
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.TTL != movedTTL || m.Priority[0] != "us-east.isp-1.oca.1" {
		t.Errorf("%q: %v", body, err)
	}
	// Nothing new: the order as it is, when the time is over.
	_, body = r.fetch(stock.Steering + `?wait=1&_HLS_pathway=us-east.isp-1.oca.1`)
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Priority[0] != "us-east.isp-1.oca.1" {
		t.Errorf("%q: %v", body, err)
	}
	for _, bad := range []string{"wait=31", "wait=-1", "wait=x", "wait=1.5"} {
		if resp, _ := r.fetch(stock.Steering + "?" + bad); resp.StatusCode != 400 {
			t.Errorf("%s: %s", bad, resp.Status)
		}
	}
	if _, body := r.fetch(stock.DASH + "?wait=20"); !strings.Contains(body, "&amp;wait=20</ContentSteering>") {
		t.Errorf("a manifest that was asked for with a wait: %s", body)
	}
	if _, body := r.fetch(stock.HLS + "?wait=20"); !strings.Contains(body, `&wait=20",PATHWAY-ID`) {
		t.Errorf("a playlist that was asked for with a wait: %s", body)
	}
}
