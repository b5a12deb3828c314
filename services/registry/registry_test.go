package registry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flix-lab/flix/services/lookup"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/services/telemetry"
	"github.com/flix-lab/flix/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type fixture struct {
	t     *testing.T
	url   string
	tel   *telemetry.Telemetry
	clock *clock
	admin http.Handler
	http  *http.Client
}

const adminKey = "key"

func start(t *testing.T, timing topology.Timing) *fixture {
	t.Helper()
	return startWith(t, timing, nil)
}

// startWith is start with further dependencies.
func startWith(t *testing.T, timing topology.Timing, with func(*registry.Deps)) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableCompression: true}
	f := &fixture{t: t, url: "http://" + l.Addr().String() + "/eureka/v2", tel: telemetry.Discard(), clock: &clock{now: time.Now()}, http: &http.Client{Transport: tr}}
	timing.RPCTimeout = topology.Duration(patience) // of a request's header, too
	d := registry.Deps{Listener: l, Tel: f.tel, Timing: timing, Region: "us-east", Clock: f.clock.read}
	if with != nil {
		with(&d)
	}
	s, err := registry.New(d)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.RegisterAdmin(mux, adminKey)
	f.admin = mux
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return f
}

// fast evicts every 10 ms of wall time, by the test's clock.
func fast() topology.Timing {
	t := topology.LabTiming()
	t.EvictionInterval = topology.Duration(10 * time.Millisecond)
	return t
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

func (f *fixture) do(method, path, accept string, body string, headers ...string) reply {
	f.t.Helper()
	req, err := http.NewRequest(method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if body != "" {
		req.Header.Set("Content-Type", accept)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.http.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, b}
}

func (f *fixture) want(status int, method, path string, headers ...string) reply {
	f.t.Helper()
	r := f.do(method, path, eureka.JSON, "", headers...)
	if r.status != status {
		f.t.Fatalf("%s %s: %d %s, want %d", method, path, r.status, r.body, status)
	}
	return r
}

// stock is a registration as a stock client writes it.
func stock(app, id, status string, dirty int64) string {
	return fmt.Sprintf(`{"instance":{"instanceId":%q,"hostName":"h1","app":%q,"ipAddr":"127.0.0.1","status":%q,"overriddenstatus":"UNKNOWN",
		"port":{"$":8080,"@enabled":"true"},"securePort":{"$":"443","@enabled":"false"},"countryId":1,
		"dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},
		"metadata":{"@class":"java.util.Collections$EmptyMap","zone":"a"},"vipAddress":"kv,kv2","secureVipAddress":"kvs",
		"isCoordinatingDiscoveryServer":"false","lastUpdatedTimestamp":"1","lastDirtyTimestamp":"%d"}}`, id, app, status, dirty)
}

func (f *fixture) register(app, id, status string, dirty int64) {
	f.t.Helper()
	if r := f.do("POST", "/apps/"+app, eureka.JSON, stock(app, id, status, dirty)); r.status != http.StatusNoContent {
		f.t.Fatalf("register %s: %d %s", id, r.status, r.body)
	}
}

func (f *fixture) apps(path string) *eureka.Applications {
	f.t.Helper()
	a, err := eureka.DecodeApplications(f.want(http.StatusOK, "GET", path).body)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (f *fixture) status(app, id string) (status, override string) {
	f.t.Helper()
	in, err := eureka.DecodeInstance(f.want(http.StatusOK, "GET", "/apps/"+app+"/"+id).body, eureka.JSON)
	if err != nil {
		f.t.Fatal(err)
	}
	return in.Status, in.OverriddenStatus
}

func TestShapes(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 7)
	f.register("KV", "i-2", "STARTING", 7)
	var doc struct {
		Applications map[string]json.RawMessage `json:"applications"`
	}
	if err := json.Unmarshal(f.want(http.StatusOK, "GET", "/apps").body, &doc); err != nil {
		t.Fatal(err)
	}
	if h := string(doc.Applications["apps__hashcode"]); h != `"STARTING_1_UP_1_"` {
		t.Errorf("apps__hashcode %s", h)
	}
	if v := string(doc.Applications["versions__delta"]); v != `"2"` {
		t.Errorf("versions__delta %s", v)
	}
	one := string(f.want(http.StatusOK, "GET", "/instances/i-1").body)
	for _, part := range []string{
		`"port":{"$":8080,"@enabled":"true"}`, `"securePort":{"$":443,"@enabled":"false"}`,
		`"dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"}`,
		`"lastDirtyTimestamp":"7"`, `"isCoordinatingDiscoveryServer":"false"`, `"metadata":{"zone":"a"}`,
		`"overriddenStatus":"UNKNOWN"`, `"durationInSecs":3`, `"actionType":"ADDED"`,
	} {
		if !strings.Contains(one, part) {
			t.Errorf("%s is not in %s", part, one)
		}
	}
	x := f.do("GET", "/apps/", eureka.XML, "")
	if x.header.Get("Content-Type") != eureka.XML {
		t.Errorf("content type %s", x.header.Get("Content-Type"))
	}
	for _, part := range []string{
		"<applications><versions__delta>2</versions__delta><apps__hashcode>STARTING_1_UP_1_</apps__hashcode><application><name>KV</name><instance>",
		`<port enabled="true">8080</port>`, `<dataCenterInfo class="com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo"><name>MyOwn</name>`,
		"<overriddenstatus>UNKNOWN</overriddenstatus>", "<metadata><zone>a</zone></metadata>",
	} {
		if !bytes.Contains(x.body, []byte(part)) {
			t.Errorf("%s is not in %s", part, x.body)
		}
	}
	if v := f.apps("/vips/KV2"); v.Version != "-1" || len(v.Regional[0].Instances) != 2 {
		t.Errorf("vip: %+v", v)
	}
	f.apps("/svips/kvs")
	if v := f.apps("/vips/none"); v.Version != "-1" || v.Hash != "" || len(v.Regional) != 0 {
		t.Errorf("a VIP of nobody: %+v", v)
	}
	f.want(http.StatusNotFound, "GET", "/apps/NONE")
	f.want(http.StatusNotFound, "GET", "/apps/KV/none")
	f.want(http.StatusOK, "GET", "/apps/kv")
	short := strings.TrimSuffix(f.url, "/v2")
	f.url = short
	f.want(http.StatusOK, "GET", "/apps/delta")
}

func TestGzipAndNotModified(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 7)
	plain := f.want(http.StatusOK, "GET", "/apps")
	zipped := f.want(http.StatusOK, "GET", "/apps", "Accept-Encoding", "deflate, gzip")
	z, err := gzip.NewReader(bytes.NewReader(zipped.body))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, plain.body) {
		t.Errorf("gzip: %v", err)
	}
	if r := f.want(http.StatusOK, "GET", "/apps", "Accept-Encoding", "gzip;q=0"); r.header.Get("Content-Encoding") != "" {
		t.Error("gzip was refused and came all the same")
	}
	tag := plain.header.Get("Etag")
	f.want(http.StatusNotModified, "GET", "/apps", "If-None-Match", tag)
	f.register("KV", "i-2", "UP", 7)
	f.want(http.StatusOK, "GET", "/apps", "If-None-Match", tag)
}

func TestRefusals(t *testing.T) {
	f := start(t, topology.LabTiming())
	for name, body := range map[string]string{
		"no JSON":       `{`,
		"no instance":   `{}`,
		"no host":       `{"instance":{"instanceId":"i","app":"KV"}}`,
		"no app":        `{"instance":{"instanceId":"i","hostName":"h"}}`,
		"other app":     stock("OTHER", "i", "UP", 1),
		"no datacentre": `{"instance":{"instanceId":"i","hostName":"h","ipAddr":"1.2.3.4","app":"KV"}}`,
		"not UTF-8":     "{\"instance\":{\"instanceId\":\"\xff\"}}",
	} {
		r := f.do("POST", "/apps/KV", eureka.JSON, body)
		if r.status != http.StatusBadRequest || !bytes.Contains(r.body, []byte(`"kind":"invalid"`)) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	f.want(http.StatusBadRequest, "PUT", "/apps/KV/i-1?lastDirtyTimestamp=x")
	f.want(http.StatusNotFound, "PUT", "/apps/KV/i-1/status?value=UP")
	f.want(http.StatusNotFound, "PUT", "/apps/KV/i-1/status?value=BUSY")
	f.want(http.StatusNotFound, "DELETE", "/apps/KV/i-1")
	f.want(http.StatusNotFound, "PUT", "/apps/KV/i-1/metadata?a=b")
	f.register("KV", "i-1", "UP", 1)
	f.want(http.StatusBadRequest, "PUT", "/apps/KV/i-1/status?value=BUSY")
	f.want(http.StatusBadRequest, "PUT", "/apps/KV/i-1/status")
}

func TestRegisterXML(t *testing.T) {
	f := start(t, topology.LabTiming())
	in, err := eureka.DecodeInstance([]byte(stock("KV", "i-1", "UP", 7)), eureka.JSON)
	if err != nil {
		t.Fatal(err)
	}
	body, err := eureka.EncodeInstance(in, eureka.XML)
	if err != nil {
		t.Fatal(err)
	}
	if r := f.do("POST", "/apps/KV", eureka.XML, string(body)); r.status != http.StatusNoContent {
		t.Fatalf("%d %s", r.status, r.body)
	}
	var got eureka.Instance
	if err := xml.Unmarshal(f.do("GET", "/apps/KV/i-1", eureka.XML, "").body, &got); err != nil {
		t.Fatal(err)
	}
	if got.Metadata["zone"] != "a" || got.Port.Number != 8080 || !bool(got.Port.Enabled) || got.LastDirty != 7 {
		t.Errorf("%+v", got)
	}
}

func TestDirtyTimestamp(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.want(http.StatusNotFound, "PUT", "/apps/KV/i-1")
	f.register("KV", "i-1", "UP", 100)
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1?status=UP&lastDirtyTimestamp=100")
	f.want(http.StatusNotFound, "PUT", "/apps/KV/i-1?lastDirtyTimestamp=101")
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1?lastDirtyTimestamp=99")
	r := f.want(http.StatusConflict, "PUT", "/apps/KV/i-1?lastDirtyTimestamp=99", "x-netflix-discovery-replication", "true")
	if in, err := eureka.DecodeInstance(r.body, eureka.JSON); err != nil || in.InstanceID != "i-1" {
		t.Errorf("409 without the instance: %s", r.body)
	}
	f.register("KV", "i-1", "DOWN", 50) // late, and older than what is known
	if s, _ := f.status("KV", "i-1"); s != "UP" {
		t.Errorf("an older registration took over: %s", s)
	}
}

func TestOverride(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 1)
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1/status?value=OUT_OF_SERVICE")
	if s, o := f.status("KV", "i-1"); s != "OUT_OF_SERVICE" || o != "OUT_OF_SERVICE" {
		t.Errorf("status %s, override %s", s, o)
	}
	f.register("KV", "i-1", "UP", 2)
	if s, _ := f.status("KV", "i-1"); s != "OUT_OF_SERVICE" {
		t.Errorf("a registration lifted the operator's override: %s", s)
	}
	f.register("KV", "i-1", "STARTING", 3)
	if s, _ := f.status("KV", "i-1"); s != "STARTING" {
		t.Errorf("not ready, but %s", s)
	}
	f.register("KV", "i-1", "UP", 4)
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1/status")
	if s, o := f.status("KV", "i-1"); s != "UP" || o != "UNKNOWN" {
		t.Errorf("after the override: status %s, override %s", s, o)
	}
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1/metadata?colour=red")
	if b := f.want(http.StatusOK, "GET", "/apps/KV/i-1").body; !bytes.Contains(b, []byte(`"colour":"red"`)) {
		t.Errorf("metadata: %s", b)
	}
}

func TestDelta(t *testing.T) {
	timing := fast()
	timing.LeaseDuration = topology.Duration(time.Hour)
	f := start(t, timing)
	f.register("KV", "i-1", "UP", 1)
	f.register("KV", "i-2", "UP", 1)
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-2")
	d := f.apps("/apps/delta")
	if d.Hash != "UP_1_" || len(d.Regional) != 1 || len(d.Regional[0].Instances) != 2 {
		t.Fatalf("%+v", d)
	}
	if a := d.Regional[0].Instances[1]; a.InstanceID != "i-2" || a.Action != "DELETED" {
		t.Errorf("%+v", a)
	}
	f.clock.advance(181 * time.Second)
	eventually(t, func() error {
		f.register("OTHER", "i-3", "UP", f.clock.read().UnixMilli()) // a change makes a new answer
		r := f.want(http.StatusOK, "GET", "/apps/delta")
		since, err := strconv.Atoi(r.header.Get(lookup.HeaderSince))
		if err != nil || since < 3 || bytes.Contains(r.body, []byte("i-2")) {
			return fmt.Errorf("since %d: %s", since, r.body)
		}
		return nil
	})
	if a := f.apps("/apps"); len(a.Regional) != 2 {
		t.Errorf("all: %+v", a)
	}
}

func TestEviction(t *testing.T) {
	f := start(t, fast())
	f.register("KV", "i-1", "UP", 1)
	f.register("KV", "i-2", "UP", 1)
	f.clock.advance(2 * time.Second)
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1")
	eventually(t, func() error {
		f.clock.advance(20 * time.Millisecond)
		f.want(http.StatusOK, "PUT", "/apps/KV/i-1")
		if r := f.do("GET", "/apps/KV/i-2", eureka.JSON, ""); r.status != http.StatusNotFound {
			return fmt.Errorf("still there: %d", r.status)
		}
		return nil
	})
	if h := f.apps("/apps").Hash; h != "UP_1_" {
		t.Errorf("hash %s", h)
	}
}

func TestSelfPreservation(t *testing.T) {
	f := start(t, fast())
	f.tel.Properties.Set(map[string]string{"registry.selfPreservation": "on", "registry.selfPreservation.exempt": "off"})
	for i := range 10 {
		f.register("KV", fmt.Sprintf("i-%d", i), "UP", 1)
	}
	f.register("EXEMPT", "i-e", "UP", 1)
	f.clock.advance(time.Hour) // all at once: the network, most likely
	// One late pass is forgiven; after it nothing renews.
	eventually(t, func() error {
		f.clock.advance(time.Second)
		if r := f.do("GET", "/apps/EXEMPT", eureka.JSON, ""); r.status != http.StatusNotFound {
			return fmt.Errorf("the exempt application is still there: %d", r.status)
		}
		return nil
	})
	if a := f.apps("/apps/delta"); a.Hash != "UP_10_" {
		t.Fatalf("hash %s, want all ten preserved", a.Hash)
	}
	e := f.explain()
	if !e.SelfPreservation || !e.Preserving || e.Kept != 10 || len(e.Leases) != 10 || !e.Leases[0].Expired {
		t.Errorf("explanation %+v", e)
	}
	f.tel.Properties.Set(map[string]string{"registry.selfPreservation": "off"})
	eventually(t, func() error {
		f.clock.advance(time.Second)
		if h := f.apps("/apps").Hash; h != "" {
			return fmt.Errorf("hash %s", h)
		}
		return nil
	})
}

func (f *fixture) explain() registry.Explanation {
	f.t.Helper()
	var e registry.Explanation
	if err := json.Unmarshal(f.adminCall("GET", "/registry/leases", http.StatusOK), &e); err != nil {
		f.t.Fatal(err)
	}
	return e
}

func (f *fixture) adminSend(method, path, body string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+adminKey)
	f.admin.ServeHTTP(w, r)
	return w
}

func (f *fixture) adminCall(method, path string, status int) []byte {
	f.t.Helper()
	w := f.adminSend(method, path, "")
	if w.Code != status {
		f.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func TestEvictByHand(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 1)
	f.adminCall("POST", "/registry/evict", http.StatusNoContent)
	f.want(http.StatusOK, "GET", "/apps/KV/i-1") // alive
	f.clock.advance(time.Hour)
	f.adminCall("POST", "/registry/evict", http.StatusNoContent)
	f.want(http.StatusNotFound, "GET", "/apps/KV/i-1")
}

func TestMetrics(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 1)
	// A request is counted once it is answered.
	eventually(t, func() error {
		if n, asked := f.counted(t, "registry_instances", `app="KV"`), f.counted(t, "registry_requests_total", `resource="register"`); n != 1 || asked != 1 {
			return fmt.Errorf("%v instances and %v registrations counted, want 1 of each", n, asked)
		}
		return nil
	})
}

// patience bounds what is waited for: only a hang takes as long.
const patience = time.Minute

// eventually polls until f returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = f(); err == nil {
			return
		}
		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
	}
	t.Fatal(err)
}
