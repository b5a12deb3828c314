package play

import (
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/media"
	"github.com/flix-lab/flix/services/steering/steeringpb"
	"github.com/flix-lab/flix/services/token"
)

// titled gives the world's appliance the title's index and starts a play.
func titled(t *testing.T) (r *rig, stock Stock, reads *int) {
	r = start(t)
	x := media.Index{Title: "tt-a", Version: 3, DurationMS: 4000}
	for _, id := range []string{"v1", "v2", "v3", "a1"} {
		tr := media.Track{ID: id, Kind: media.KindVideo, Path: id + ".mp4", Codecs: "avc1.64001f", Kbps: 100, Width: 320, Height: 180, Size: 300, Init: media.Segment{Size: 100, SHA256: make([]byte, 32)}}
		if id == "a1" {
			tr.Kind, tr.Codecs, tr.Width, tr.Height = media.KindAudio, "mp4a.40.2", 0, 0
		}
		for i := range uint64(2) {
			tr.Segments = append(tr.Segments, media.Segment{Offset: 100 + 100*i, Size: 100, DurationMS: 2000, SHA256: make([]byte, 32)})
		}
		x.Tracks = append(x.Tracks, tr)
	}
	b, err := x.JSON()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	reads = new(int)
	oca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		*reads++
		bearer := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		if _, err := r.key.Verify(token.Fill, bearer, time.Now()); err != nil || req.URL.Path != "/fill/tt-a/3/index.json" {
			t.Errorf("read %s: %v", req.URL.Path, err)
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(oca.Close)
	r.world.sum, r.world.fill = sum[:], oca.URL
	got, p := r.post(PathStart, ask())
	if p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	return r, got.Stock, reads
}

// fetch asks as a stock player does: without a member.
func (r *rig) fetch(path string, header ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(b)
}

func TestStockManifests(t *testing.T) {
	r, stock, reads := titled(t)
	resp, body := r.fetch(stock.DASH)
	var mpd struct {
		BaseURL []struct {
			Location string `xml:"serviceLocation,attr"`
			URL      string `xml:",chardata"`
		}
		Steering struct {
			Default string `xml:"defaultServiceLocation,attr"`
			URL     string `xml:",chardata"`
		} `xml:"ContentSteering"`
		IDs []struct {
			ID string `xml:"id,attr"`
		} `xml:"Period>AdaptationSet>Representation"`
	}
	if err := xml.Unmarshal([]byte(body), &mpd); err != nil || resp.Header.Get("Content-Type") != "application/dash+xml" {
		t.Fatalf("%s %v: %v\n%s", resp.Status, resp.Header, err, body)
	}
	// The second appliance has no plain door: no stock player could use it.
	if len(mpd.BaseURL) != 1 || mpd.BaseURL[0].Location != "us-east.isp-1.oca.1" || mpd.Steering.Default != "us-east.isp-1.oca.1" || mpd.Steering.URL != "steering.json?format=dash&hosts=address&pathways=us-east.isp-1.oca.1" {
		t.Errorf("%+v", mpd)
	}
	// The plan ends at 480 lines: not v3.
	if len(mpd.IDs) != 3 {
		t.Errorf("representations %+v", mpd.IDs)
	}
	tok, path, _ := strings.Cut(strings.TrimPrefix(mpd.BaseURL[0].URL, "http://127.0.0.1:2234/"), "/")
	if c, err := r.key.Verify(token.URL, tok, time.Now()); err != nil || path != "t/tt-a/3/" || c.Client != "198.18.0.9" || c.Title != "tt-a" {
		t.Errorf("%s: %+v %v", mpd.BaseURL[0].URL, c, err)
	}
	for client, c := range map[string]struct {
		header []string
		want   string
	}{
		"a browser": {[]string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, "http://oca-1-isp-1.localhost:2234/"},
		"a player":  {[]string{"Accept", "*/*"}, "http://127.0.0.1:2234/"},
		"yt-dlp":    {[]string{"User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "Sec-Fetch-Mode", "navigate"}, "http://127.0.0.1:2234/"},
	} {
		if _, body := r.fetch(stock.DASH, c.header...); !strings.Contains(body, c.want) {
			t.Errorf("for %s there is no %s", client, c.want)
		}
	}
	if _, body := r.fetch(stock.DASH + "?hosts=name"); !strings.Contains(body, "oca-1-isp-1.localhost") {
		t.Error("names were asked for")
	}
	for _, query := range []string{"", "?segments=list", "?segments=index"} {
		if resp, body := r.fetch(stock.DASH + query); resp.StatusCode != 200 || !strings.Contains(body, "<ContentSteering") {
			t.Errorf("%s: %s\n%s", query, resp.Status, body)
		}
	}
	if resp, _ := r.fetch(stock.DASH + "?segments=all"); resp.StatusCode != 400 {
		t.Errorf("segments=all: %s", resp.Status)
	}
	if resp, _ := r.fetch(stock.DASH + "?hosts=all"); resp.StatusCode != 400 {
		t.Errorf("hosts=all: %s", resp.Status)
	}
	resp, body = r.fetch(stock.HLS)
	for _, want := range []string{"#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering.json?format=hls&hosts=address&pathways=us-east.isp-1.oca.1\",PATHWAY-ID=\"us-east.isp-1.oca.1\"", "AUDIO=\"audio-us-east.isp-1.oca.1\",PATHWAY-ID=\"us-east.isp-1.oca.1\"\nhttp://127.0.0.1:2234/"} {
		if !strings.Contains(body, want) {
			t.Errorf("%s: no %q in\n%s", resp.Status, want, body)
		}
	}
	if *reads != 1 {
		t.Errorf("the index was read %d times", *reads)
	}
}

// TestSteeringServerForPages gives a page of another origin the whole address: dash.js
// takes a relative one to be relative to the page.
func TestSteeringServerForPages(t *testing.T) {
	r, stock, _ := titled(t)
	folder := strings.TrimSuffix(stock.DASH, fileDASH)
	direct := []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example:8443"}
	for name, c := range map[string]struct {
		query  string
		header []string
		want   string
	}{
		"a player":             {"", direct, ">steering.json?"},
		"a page of its own":    {"", append(direct, "Origin", "https://api.example:8443"), ">steering.json?"},
		"another page":         {"", append(direct, "Origin", "http://127.0.0.1:9000"), ">https://api.example:8443" + folder + "steering.json?"},
		"another, by a proxy":  {"?base=http://127.0.0.1:8080", append(direct, "Origin", "http://127.0.0.1:9000"), ">http://127.0.0.1:8080" + folder + "steering.json?"},
		"one without a gate":   {"", []string{"Origin", "http://127.0.0.1:9000"}, ">steering.json?"},
		"by address, asked so": {"?base=https://[::1]:8443", nil, ">https://[::1]:8443" + folder + "steering.json?"},
	} {
		if resp, body := r.fetch(stock.DASH+c.query, c.header...); !strings.Contains(body, c.want) {
			t.Errorf("%s: %s has no %q:\n%s", name, resp.Status, c.want, body)
		}
	}
	for _, bad := range []string{"javascript:alert(1)", "http://x/path", "http://x?y", "//x"} {
		if resp, _ := r.fetch(stock.DASH + "?base=" + url.QueryEscape(bad)); resp.StatusCode != 400 {
			t.Errorf("base=%s: %s", bad, resp.Status)
		}
	}
}

func TestStockRefusals(t *testing.T) {
	r, stock, _ := titled(t)
	tok := strings.TrimSuffix(strings.TrimPrefix(stock.DASH, PathStock), "/"+fileDASH)
	member := r.key.Sign(token.Member, token.Claims{Title: "tt-a", Client: "198.18.0.9"}, time.Now(), time.Hour)
	old := r.key.Sign(token.Stock, token.Claims{Title: "tt-a", Client: "198.18.0.9"}, time.Now().Add(-time.Hour), time.Minute)
	for name, bad := range map[string]string{"forged": tok + "A", "for another audience": member, "expired": old, "of nobody": "x.y"} {
		for _, file := range []string{fileDASH, fileHLS, fileSteering} {
			if resp, body := r.fetch(PathStock + bad + "/" + file); resp.StatusCode != 403 {
				t.Errorf("%s, %s: %s %s", name, file, resp.Status, body)
			}
		}
	}
	if resp, _ := r.fetch(PathStock + "x/" + fileDASH); resp.StatusCode != 400 {
		t.Errorf("what has not the form of a token: %s", resp.Status)
	}
	if resp, _ := r.fetch(PathStock + tok + "/other.mpd"); resp.StatusCode != 404 {
		t.Errorf("no such file: %s", resp.Status)
	}
	r.world.mu.Lock()
	r.world.sum = make([]byte, 32)
	r.world.mu.Unlock()
	other, p := r.post(PathStart, StartRequest{Session: "s2", Title: "tt-b", Device: "tv"})
	if p.Kind != "" {
		t.Fatalf("%+v", p)
	}
	r.world.mu.Lock()
	r.world.fill = ""
	r.world.mu.Unlock()
	if resp, body := r.fetch(other.Stock.DASH); resp.StatusCode != 503 {
		t.Errorf("an index that nobody gives: %s %s", resp.Status, body)
	}
}

func TestSteering(t *testing.T) {
	r, stock, _ := titled(t)
	resp, body := r.fetch(stock.Steering + `?_DASH_pathway="us-east.isp-1.oca.1"&_DASH_throughput=5140000`)
	var m SteeringManifest
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Version != 1 || m.TTL < 1 || !slices.Equal(m.Priority, []string{"us-east.isp-1.oca.1"}) {
		t.Errorf("%s %v: %s", resp.Status, err, body)
	}
	if m.Clones != nil {
		t.Errorf("clones %v for who did not say what it has", m.Clones)
	}
	// Another appliance has come into reach since the manifest was made.
	for query, host := range map[string]string{
		"format=dash&hosts=address": "http://127.0.0.1:2234", "format=hls&hosts=address": "127.0.0.1:2234",
		"format=dash&hosts=name": "http://oca-1-isp-1.localhost:2234",
	} {
		_, body = r.fetch(stock.Steering + "?" + query + "&pathways=us-east.gone.oca.1,us-east.gone.oca.2")
		m = SteeringManifest{}
		want := []PathwayClone{{BaseID: "us-east.gone.oca.1", ID: "us-east.isp-1.oca.1", Replacement: URIReplacement{Host: host}}}
		if err := json.Unmarshal([]byte(body), &m); err != nil || !slices.Equal(m.Clones, want) || !slices.Equal(m.Priority, []string{"us-east.isp-1.oca.1"}) {
			t.Errorf("%s: %v: %s, want the clone %v", query, err, body, want)
		}
	}
	if _, body = r.fetch(stock.Steering + "?format=dash&pathways=us-east.isp-1.oca.1"); strings.Contains(body, "CLONES") {
		t.Errorf("a clone of what the manifest has: %s", body)
	}
	for _, bad := range []string{"format=smooth", "pathways=a%20b", "hosts=x"} {
		if resp, _ := r.fetch(stock.Steering + "?" + bad); resp.StatusCode != 400 {
			t.Errorf("%s: %s", bad, resp.Status)
		}
	}
	settled := m.TTL
	r.world.mu.Lock()
	r.world.unsettled = true
	r.world.mu.Unlock()
	_, body = r.fetch(stock.Steering)
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.TTL != max(1, settled/unsettledTTL) || settled < unsettledTTL {
		t.Errorf("TTL %d while the order may change, %d before (%v)", m.TTL, settled, err)
	}
	r.breaks("Rank", services.Errorf(services.NotFound, "none").WithReason(services.ReasonNoReplica))
	if resp, body := r.fetch(stock.Steering); resp.StatusCode != 404 {
		t.Errorf("nobody holds it: %s %s", resp.Status, body)
	}
}

func TestPrefer(t *testing.T) {
	all := []*steeringpb.Candidate{
		{Appliance: "r/a/oca/1", PlainUrl: "http://a"}, {Appliance: "r/a/oca/2", PlainUrl: "http://b"},
		{Appliance: "r/x/oca/1", PlainUrl: "http://c", Rank: 1}, {Appliance: "r/y/oca/1", Rank: 1},
	}
	for now, want := range map[string]string{
		"": "r.a.oca.1 r.a.oca.2 r.x.oca.1", "r.a.oca.1": "r.a.oca.1 r.a.oca.2 r.x.oca.1",
		"r.a.oca.2": "r.a.oca.2 r.a.oca.1 r.x.oca.1", // as near: it may stay
		"r.x.oca.1": "r.a.oca.1 r.a.oca.2 r.x.oca.1", // farther: it should move
		"r.z.oca.1": "r.a.oca.1 r.a.oca.2 r.x.oca.1",
	} {
		if got := strings.Join(prefer(all, now), " "); got != want {
			t.Errorf("at %q: %s, want %s", now, got, want)
		}
	}
	// Who has no plain door is in no manifest: it takes nobody's place, and is not
	// what others are measured by.
	mixed := []*steeringpb.Candidate{{Appliance: "r/a/oca/9"}}
	var want []string
	for i := range 2 * maxAppliances {
		mixed = append(mixed, &steeringpb.Candidate{Appliance: fmt.Sprintf("r/b/oca/%d", i), PlainUrl: "http://b", Rank: 1})
		want = append(want, fmt.Sprintf("r.b.oca.%d", i))
	}
	want = want[:maxAppliances]
	if got := prefer(mixed, "r.b.oca.0"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	want[0], want[1] = want[1], want[0]
	if got := prefer(mixed, want[0]); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := prefer(nil, "x"); got == nil || len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func FuzzCurrent(f *testing.F) {
	for _, q := range []string{"", "_DASH_pathway=%22a%22", "_DASH_pathway=%22a,b%22&_DASH_throughput=1,2", "_HLS_pathway=a.b-c", "_HLS_pathway=%00", "_DASH_pathway=" + strings.Repeat("x", 300)} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		req := httptest.NewRequest("GET", "/", nil)
		req.URL.RawQuery = query
		if got := current(req.URL.Query()); len(got) > maxID || strings.Contains(got, ",") {
			t.Errorf("%q", got)
		}
	})
}

func TestIndexesAreBounded(t *testing.T) {
	x := &indexes{known: map[string]known{}}
	for i := range 2 * maxIndexes {
		x.keep(strings.Repeat("t", i+1), known{size: 1 << 19})
	}
	if len(x.known) != len(x.order) || len(x.known) > maxIndexes || x.bytes > maxIndexBytes || len(x.known) == 0 {
		t.Errorf("%d kept, %d in order, %d bytes", len(x.known), len(x.order), x.bytes)
	}
	if _, ok := x.known[strings.Repeat("t", 2*maxIndexes)]; !ok {
		t.Error("the latest is not kept")
	}
}
