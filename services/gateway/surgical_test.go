package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/token"
)

// setTable sets a table of the built-in routes and some more.
func (e *edge) setTable(more ...Route) {
	e.w.t.Helper()
	b, err := json.Marshal(Table{Version: e.Routes().Version + 1, Routes: append(DefaultRoutes(), more...)})
	if err != nil {
		e.w.t.Fatal(err)
	}
	e.set(PropertyRoutes, string(b))
	if r := e.Routes(); r.Refused != nil {
		e.w.t.Fatalf("the table is refused: %s", r.Refused.Error)
	}
}

func TestSurgicalRoutes(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	for k := 1; k <= 3; k++ {
		e.api("play", fmt.Sprintf("us-east/a/play/%d", k), echo(fmt.Sprint("play-", k)))
	}
	// Of another zone, which nobody prefers.
	e.apiIn("b", "play", "us-east/b/play/4", echo("play-4"))
	e.api("canary", "us-east/a/canary/1", echo("canary"))
	c := e.client(eastClient, true)
	by := func(member string, header ...string) string {
		t.Helper()
		return ask(t, c, "GET", "/play/x", "", append(header, "Authorization", w.member(member))...).seen(t).By
	}
	e.setTable(Route{Name: "pin", Overlay: true, Members: []string{"m-pin"}, Instance: "us-east/b/play/4"},
		Route{Name: "canary", Overlay: true, Devices: []string{"tv"}, Members: []string{"m-tv"}, VIP: "canary"},
		Route{Name: "gone", Overlay: true, Members: []string{"m-gone"}, Instance: "us-east/a/play/9"})
	for range 10 {
		if got := by("m-pin"); got != "play-4" {
			t.Errorf("a pinned member is answered by %s", got)
		}
		if got := by("m-tv"); got != "canary" {
			t.Errorf("a member of the canary is answered by %s", got)
		}
		if got := by("m-other"); got == "play-4" || got == "canary" {
			t.Errorf("another member is answered by %s", got)
		}
		if got := by("m-gone"); !strings.HasPrefix(got, "play-") {
			t.Errorf("pinned to an instance that is not up: %s", got)
		}
	}
	// An overlay opens nothing.
	if a := ask(t, c, "GET", "/play/x", ""); a.StatusCode != 401 {
		t.Errorf("without a token: %d", a.StatusCode)
	}
	signed := func(to string) string {
		return w.key.Sign(token.Debug, token.Claims{Session: to}, time.Now(), time.Hour)
	}
	for range 5 {
		if got := by("m-other", DebugHeader, signed(ToInstance("us-east/b/play/4"))); got != "play-4" {
			t.Errorf("a signed header for an instance: %s", got)
		}
		if got := by("m-other", DebugHeader, signed(ToVIP("canary"))); got != "canary" {
			t.Errorf("a signed header for a VIP: %s", got)
		}
	}
	if a := ask(t, c, "GET", "/play/x", "", DebugHeader, signed(ToVIP("canary"))); a.StatusCode != 401 {
		t.Errorf("a signed header opens what is for members: %d", a.StatusCode)
	}
	if a := ask(t, c, "GET", "/play/x", "", DebugHeader, signed("vip=http://evil"), "Authorization", w.member("m")); a.StatusCode != 400 {
		t.Errorf("a signed header for what is no VIP: %d", a.StatusCode)
	}
}

func TestFixedOrigins(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	var addrs []string
	for _, name := range []string{"one", "two"} {
		srv := httptest.NewServer(echo(name))
		t.Cleanup(srv.Close)
		addrs = append(addrs, srv.URL)
	}
	addrs = append(addrs, "http://"+addresstest.Refusing(t))
	e.setTable(Route{Name: "mock", Prefix: "/mock", Origins: addrs})
	c := e.client(eastClient, true)
	by := map[string]int{}
	for range 20 {
		s := ask(t, c, "POST", "/mock/x?y=1", "body").seen(t)
		by[s.By]++
		if s.Path != "/mock/x?y=1" || s.Body != "body" || s.Header.Get("X-Flix-Client-Ip") != "198.18.0.7" {
			t.Fatalf("the origin saw %+v", s)
		}
	}
	if by["one"] == 0 || by["two"] == 0 || by["one"]+by["two"] != 20 {
		t.Errorf("answers by %v", by)
	}
	// Outside the declared networks the table is refused as a whole.
	before := e.Routes().Version
	e.set(PropertyRoutes, `{"version":9,"routes":[{"prefix":"/mock","origins":["http://192.0.2.1:80"]}]}`)
	if r := e.Routes(); r.Version != before || r.Refused == nil || r.Refused.Version != 9 || !strings.Contains(r.Refused.Error, "outside the declared networks") {
		t.Errorf("%+v", r)
	}
}

func TestRouteToAnotherRegion(t *testing.T) {
	w, east, west := evacuating(t)
	for _, e := range []*edge{east, west} {
		e.setTable(Route{Name: "west", Prefix: "/signup", Countries: []string{"US"}, Headers: map[string]string{"X-West": "*"}, Region: "us-west", VIP: "signup"},
			Route{Name: "only", Prefix: "/only", Region: "us-west"})
	}
	west.api("only", "us-west/a/only/1", echo("only"))
	c := east.client(eastClient, true)
	if a := ask(t, c, "GET", "/signup/plans", "", "X-West", "1"); a.seen(t).By != "us-west" || a.Header.Get("X-Flix-Region") != "us-west" || a.Header.Get("X-Flix-Proxied-By") == "" {
		t.Errorf("%s %v", a.body, a.Header)
	}
	if a := ask(t, c, "GET", "/signup/plans", ""); a.seen(t).By != "us-east" {
		t.Errorf("without the header: %s", a.body)
	}
	// A request that has crossed does not cross again, and where the route
	// leads nowhere else it leads nowhere.
	if a := ask(t, c, "GET", "/only/x", ""); a.StatusCode != 404 || a.Header.Get("X-Flix-Region") != "us-west" {
		t.Errorf("a route that only leads there: %d %v", a.StatusCode, a.Header)
	}
	// From there, and without a gateway there, the API here answers.
	if a := ask(t, west.client(westClient, true), "GET", "/signup/plans", "", "X-West", "1"); a.seen(t).By != "us-west" || a.Header.Get("X-Flix-Proxied-By") != "" {
		t.Errorf("from us-west: %s %v", a.body, a.Header)
	}
	west.stop()
	east.transports.remote.CloseIdleConnections()
	w.mu.Lock()
	w.remotes["us-west"] = nil
	w.mu.Unlock()
	if a := ask(t, c, "GET", "/signup/plans", "", "X-West", "1"); a.StatusCode != 200 || a.seen(t).By != "us-east" {
		t.Errorf("without us-west: %d %s", a.StatusCode, a.body)
	}
}

// TestRoutesChangeWithoutALostRequest changes the table all the while.
func TestRoutesChangeWithoutALostRequest(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	e.api("signup", "us-east/a/signup/1", echo("signup"))
	e.api("other", "us-east/a/other/1", echo("other"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var asked, lost atomic.Int64
	for range 4 {
		c := e.client(eastClient, false)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := c.Get("https://" + edgeHost + "/signup/plans")
				asked.Add(1)
				if err != nil || resp.StatusCode != 200 {
					lost.Add(1)
				}
				if err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
	half := 50.0
	for k := range 100 {
		before := asked.Load()
		e.setTable(Route{Name: "test", Prefix: "/signup", VIP: "other", Percent: &half, Priority: k})
		e.set(FilterProperty("compress", "disable"), fmt.Sprint(k%2 == 0))
		eventually(t, "requests between two changes", func() bool { return asked.Load() > before })
	}
	close(stop)
	wg.Wait()
	if n := lost.Load(); n > 0 {
		t.Errorf("%d of %d requests are lost", n, asked.Load())
	}
}

func TestSqueeze(t *testing.T) {
	w := newWorld(t)
	e := w.gateway("us-east")
	var fails atomic.Bool
	e.api("signup", "us-east/a/signup/1", func(w http.ResponseWriter, r *http.Request) {
		if fails.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		echo("one")(w, r)
	})
	e.api("signup", "us-east/a/signup/2", echo("two"))
	e.api("signup", "us-east/a/signup/3", echo("three"))
	c := e.client(eastClient, true)
	asking := func(n int) map[string]int {
		t.Helper()
		by := map[string]int{}
		for range n {
			a := ask(t, c, "GET", "/signup/plans", "")
			if a.StatusCode == 200 {
				by[a.seen(t).By]++
			} else {
				by["failed"]++
			}
		}
		return by
	}
	squeeze := func(share float64, step int, last time.Duration) {
		t.Helper()
		b, err := json.Marshal(Squeeze{VIP: "signup", Instance: "us-east/a/signup/1", Share: share, Step: step, UntilMS: time.Now().Add(last).UnixMilli()})
		if err != nil {
			t.Fatal(err)
		}
		e.set(PropertySqueeze, string(b))
	}
	squeeze(1, 1, time.Hour)
	if by := asking(30); by["one"] != 30 {
		t.Errorf("all of it: %v", by)
	}
	// A request is counted when its last byte is out.
	counted := func(n int64) {
		t.Helper()
		eventually(t, "the requests to be counted", func() bool { r := e.Squeezed(); return r.Requests+r.Others >= n })
	}
	counted(30)
	r := e.Squeezed()
	if r.Requests != 30 || r.Errors != 0 || r.Others != 0 || r.Step != 1 || r.MS <= 0 {
		t.Errorf("%+v", r)
	}
	var sum int64
	for _, n := range r.Times {
		sum += n
	}
	if sum != 30 {
		t.Errorf("%d times are kept", sum)
	}
	squeeze(1, 1, 2*time.Hour) // the same step goes on
	if r := e.Squeezed(); r.Requests != 30 {
		t.Errorf("a step that goes on counts anew: %+v", r)
	}
	squeeze(0.5, 2, time.Hour)
	if by := asking(200); by["one"] < 60 || by["one"] > 140 || by["two"] == 0 || by["three"] == 0 {
		t.Errorf("half of it: %v", by)
	}
	counted(200)
	if r := e.Squeezed(); r.Requests+r.Others != 200 {
		t.Errorf("%+v", r)
	}
	squeeze(0, 3, time.Hour)
	if by := asking(20); by["one"] != 0 {
		t.Errorf("nothing: %v", by)
	}
	squeeze(1, 5, -time.Second) // its time is over: it lapses by itself
	// One slow answer keeps a server aside until the time has worn it off.
	eventually(t, "the others to have their share again", func() bool { return asking(20)["one"] < 20 })
	eventually(t, "the server that was squeezed to have its share again", func() bool { return asking(20)["one"] > 0 })
	fails.Store(true)
	squeeze(1, 4, time.Hour)
	by := asking(10)
	counted(10)
	if by["one"] != 0 || e.Squeezed().Errors != 10 || e.Squeezed().Requests != 10 {
		t.Errorf("what others answer for it counts as its own: %v, %d errors of %d", by, e.Squeezed().Errors, e.Squeezed().Requests)
	}
	e.set(PropertySqueeze, "")
	if r := e.Squeezed(); r.VIP != "" || r.Requests != 0 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{"{", `{"vip":"signup"}`, `{"vip":"signup","instance":"x","share":2,"until_unix_ms":1}`, `{"vip":"S","instance":"x","until_unix_ms":1}`} {
		if _, err := ParseSqueeze(bad); services.KindOf(err) != services.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestLatencyBuckets(t *testing.T) {
	last := -1
	for d := time.Microsecond; d < 2*time.Minute; d += d/100 + time.Microsecond {
		k := latencyBucket(d)
		if k < last {
			t.Fatalf("%s falls below what is shorter", d)
		}
		last = k
		if top := LatencyBucket(k); d <= time.Minute && (top < d.Truncate(time.Microsecond) || float64(top) > float64(d)*1.07+2000) {
			t.Fatalf("%s is in a bucket that ends at %s", d, top)
		}
	}
	if latencyBucket(0) != 0 || latencyBucket(time.Hour) != latencyBuckets-1 {
		t.Error("what is too short or too long has no bucket")
	}
}

func TestReportsOverAdmin(t *testing.T) {
	e := newWorld(t).gateway("us-east")
	mux := http.NewServeMux()
	e.RegisterAdmin(mux, "key")
	read := func(path string, into any) {
		t.Helper()
		r := httptest.NewRequest("GET", path, nil)
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		if rec.Code != 401 {
			t.Errorf("%s without the key: %d", path, rec.Code)
		}
		r.Header.Set("Authorization", "Bearer key")
		rec = httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		if err := json.Unmarshal(rec.Body.Bytes(), into); err != nil || rec.Code != 200 {
			t.Fatalf("%s: %d %s %v", path, rec.Code, rec.Body, err)
		}
	}
	var tr TableReport
	if read("/routes", &tr); tr.Version != 0 || len(tr.Routes) != len(DefaultRoutes()) || tr.Gateway != "us-east/a/gateway/1" {
		t.Errorf("%+v", tr)
	}
	e.set(FilterProperty("cors", "disable"), "on")
	e.set(FilterProperty("rate-limit", "client"), "5/s")
	var fs []FilterStatus
	read("/filters", &fs)
	found := 0
	for _, f := range fs {
		switch f.Name {
		case "cors":
			found++
			if f.Enabled || f.Phase != "inbound" || len(f.Options) != 2 {
				t.Errorf("%+v", f)
			}
		case "rate-limit":
			found++
			if !f.Enabled || f.Options[0].Value != "5/s" || f.Options[0].Default != "off" || f.Options[0].Doc == "" {
				t.Errorf("%+v", f)
			}
		}
	}
	if found != 2 {
		t.Errorf("filters %+v", fs)
	}
	var sr SqueezeReport
	if read("/squeeze", &sr); sr.VIP != "" || sr.Times == nil {
		t.Errorf("%+v", sr)
	}
}

func TestCheckProperty(t *testing.T) {
	for name, tt := range map[string]struct {
		value string
		kind  services.Kind // "" is taken
	}{
		PropertyRoutes:                          {`[{"prefix":"/","vip":"x"}]`, ""},
		PropertyEvacuate:                        {`{"share":2}`, services.Invalid},
		PropertySqueeze:                         {`{}`, services.Invalid},
		FilterProperty("cors", "disable"):       {"on", ""},
		FilterProperty("cors", "concurrency"):   {"-3", services.Invalid},
		FilterProperty("cors", "origins"):       {"nonsense", services.Invalid},
		FilterProperty("cors", "colour"):        {"red", services.NotFound},
		FilterProperty("chaos", "disable"):      {"on", services.NotFound},
		FilterProperty("load-shed", "overload"): {"80", ""},
		FilterProperty("rate-limit", "client"):  {"10/s:20", ""},
		FilterProperty("compress", "types"):     {"text", services.Invalid},
		FilterProperty("compress", "min-bytes"): {"", ""},
		FilterProperty("trace", "sample"):       {"x", services.Invalid},
		"gateway.colour":                        {"red", services.NotFound},
	} {
		err := CheckProperty(name, tt.value)
		if (tt.kind == "") != (err == nil) || (err != nil && services.KindOf(err) != tt.kind) {
			t.Errorf("%s=%s: %v", name, tt.value, err)
		}
	}
}

func TestDeviceOf(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64) Firefox/140": "web", "Mozilla/5.0 (iPhone; CPU iPhone OS 18) Mobile": "phone", "Mozilla/5.0 (iPad; CPU OS 18) Mobile": "tablet",
		"Mozilla/5.0 (Linux; Android 15; Pixel) Mobile": "phone", "Mozilla/5.0 (SMART-TV; Tizen 8)": "tv", "Roku/DVP-14": "tv", "curl/8": "", "": "",
	} {
		if got := deviceOf(NewHeader("User-Agent", agent)); got != want {
			t.Errorf("%q is a %q, want %q", agent, got, want)
		}
	}
	if got := deviceOf(NewHeader("User-Agent", "Mozilla/5.0", "Sec-CH-UA-Mobile", "?1")); got != "phone" {
		t.Errorf("the client hint: %q", got)
	}
}
