package registry_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/topology"
)

func TestAcceptAndContentType(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 1)
	for accept, want := range map[string]int{
		"text/html": 406, "text/plain, image/*": 406, "application/json;q=0": 406,
		"application/json": 200, "*/*": 200, "application/*": 200, "text/html, */*;q=0.1": 200, "text/html, image/gif, *; q=.2": 200,
		"application/json, application/*+json": 200, "text/xml": 200, "": 200,
	} {
		for _, path := range []string{"/apps", "/apps/KV/i-1", "/vips/kv"} {
			if r := f.do("GET", path, accept, ""); r.status != want {
				t.Errorf("%s for %q: %d, want %d", path, accept, r.status, want)
			}
		}
	}
	for media, want := range map[string]int{
		"application/json": 204, "application/json;charset=UTF-8": 204, "APPLICATION/JSON": 204, "text/json": 204, "application/vnd.x+json": 204,
		"application/xml": 400, "text/plain": 415, "application/x-www-form-urlencoded": 415, "": 415, "json/": 415,
	} {
		if r := f.do("POST", "/apps/KV", eureka.JSON, stock("KV", "i-1", "UP", 1), "Content-Type", media); r.status != want {
			t.Errorf("Content-Type %q: %d %s, want %d", media, r.status, r.body, want)
		}
	}
	for _, media := range []string{"text/plain", "application/xml"} {
		r := f.do("POST", "/peerreplication/batch/", eureka.JSON, `{"replicationList":[]}`, "Content-Type", media)
		if r.status != http.StatusUnsupportedMediaType || strings.Contains(string(r.body), "or application/xml") {
			t.Errorf("a batch of %s: %d %s", media, r.status, r.body)
		}
	}
	if r := f.want(http.StatusNoContent, "OPTIONS", "/apps/KV/i-1"); r.header.Get("Allow") != "DELETE, GET, HEAD, OPTIONS, PUT" {
		t.Errorf("Allow %q", r.header.Get("Allow"))
	}
}

// TestOneInstance: it is zipped when asked for, and never cut short.
func TestOneInstance(t *testing.T) {
	f := start(t, topology.LabTiming())
	f.register("KV", "i-1", "UP", 7)
	for _, path := range []string{"/apps/KV/i-1", "/instances/i-1"} {
		plain := f.want(http.StatusOK, "GET", path)
		zipped := f.want(http.StatusOK, "GET", path, "Accept-Encoding", "gzip", "X-Eureka-Accept", "compact")
		z, err := gzip.NewReader(bytes.NewReader(zipped.body))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, plain.body) {
			t.Errorf("%s: %v %s", path, err, b)
		}
	}
}

// TestShortRecords are those of the original, byte for byte.
func TestShortRecords(t *testing.T) {
	f := start(t, topology.LabTiming())
	const body = `{"instance":{"instanceId":"i-1","hostName":"h","app":"AM","ipAddr":"10.0.0.1","port":{"$":80,"@enabled":"true"},"vipAddress":"v","asgName":"g",
		"dataCenterInfo":{"@class":"com.netflix.appinfo.AmazonInfo","name":"Amazon","metadata":{"ami-id":"a","local-ipv4":"l","availability-zone":"z"}}}}`
	if r := f.do("POST", "/apps/AM", eureka.JSON, body); r.status != http.StatusNoContent {
		t.Fatalf("%d %s", r.status, r.body)
	}
	at := f.apps("/apps").Regional[0].Instances[0].LastUpdated
	ms, err := at.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	stamp := strings.Trim(string(ms), `"`)
	for accept, want := range map[string]string{
		eureka.JSON: `{"applications":{"application":[{"name":"AM","instance":[{"instanceId":"i-1","app":"AM","ipAddr":"10.0.0.1","vipAddress":"v","dataCenterInfo":{"@class":"com.netflix.appinfo.AmazonInfo","name":"Amazon","metadata":{"instance-id":"i-1","availability-zone":"z","local-ipv4":"l"}},"hostName":"h","status":"UP","lastUpdatedTimestamp":` + stamp + `,"actionType":"ADDED","asgName":"g","port":{"$":80,"@enabled":"true"},"securePort":{"$":7002,"@enabled":"false"}}]}],"versions__delta":"1","apps__hashcode":"UP_1_"}}`,
		eureka.XML:  `<applications><application><name>AM</name><instance><instanceId>i-1</instanceId><app>AM</app><ipAddr>10.0.0.1</ipAddr><vipAddress>v</vipAddress><dataCenterInfo class="com.netflix.appinfo.AmazonInfo"><name>Amazon</name><metadata><instance-id>i-1</instance-id><availability-zone>z</availability-zone><local-ipv4>l</local-ipv4></metadata></dataCenterInfo><hostName>h</hostName><status>UP</status><lastUpdatedTimestamp>` + stamp + `</lastUpdatedTimestamp><actionType>ADDED</actionType><asgName>g</asgName><port enabled="true">80</port><securePort enabled="false">7002</securePort></instance></application><versions__delta>1</versions__delta><apps__hashcode>UP_1_</apps__hashcode></applications>`,
	} {
		if b := f.do("GET", "/apps", accept, "", "X-Eureka-Accept", "compact").body; string(b) != want {
			t.Errorf("got  %s\nwant %s", b, want)
		}
	}
}

// TestRecordsThatOthersCannotRead: the original's clients drop a whole list for
// one record in it that they cannot read.
func TestRecordsThatOthersCannotRead(t *testing.T) {
	f := start(t, topology.LabTiming())
	with := func(dc string) string {
		return `{"instance":{"instanceId":"i-1","hostName":"h","app":"KV","appGroupName":"group","ipAddr":"10.0.0.1","dataCenterInfo":` + dc + `}}`
	}
	if r := f.do("POST", "/apps/KV", eureka.JSON, with(`{"@class":"x","name":"Cellar"}`)); r.status != http.StatusBadRequest || !bytes.Contains(r.body, []byte("Cellar")) {
		t.Errorf("a data centre that nobody knows: %d %s", r.status, r.body)
	}
	if r := f.do("POST", "/apps/KV", eureka.JSON, with(`{"@class":"com.netflix.appinfo.AmazonInfo","name":"Amazon"}`)); r.status != http.StatusNoContent {
		t.Fatalf("%d %s", r.status, r.body)
	}
	in := f.apps("/apps").Regional[0].Instances[0]
	if in.DataCenter.Metadata["instance-id"] != "i-1" || in.AppGroup != "GROUP" || in.Port != (eureka.Port{Number: 7001, Enabled: true}) || in.SecurePort != (eureka.Port{Number: 7002}) {
		t.Errorf("%+v", in)
	}
}

// TestWhatAWordOnAStatusChanges beyond the status itself.
func TestWhatAWordOnAStatusChanges(t *testing.T) {
	f := start(t, topology.LabTiming())
	const replica = "X-Netflix-Discovery-Replication"
	f.register("KV", "i-1", "UP", 7)
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1/status?value=DOWN")
	f.shows("i-1", "UP") // there was no override: nothing falls back
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1?overriddenstatus=DOWN&lastDirtyTimestamp=7", replica, "true")
	if s, o := f.status("KV", "i-1"); s != "UP" || o != "UNKNOWN" {
		t.Errorf("a peer that knows no more than we do brought an override: %s %s", s, o)
	}
	f.want(http.StatusNotFound, "PUT", "/apps/KV/i-1?overriddenstatus=DOWN&lastDirtyTimestamp=8", replica, "true")
	if _, o := f.status("KV", "i-1"); o != "DOWN" {
		t.Errorf("a peer that knows more: %s", o)
	}
	f.want(http.StatusOK, "PUT", "/apps/KV/i-1/metadata?a=b")
	f.want(http.StatusOK, "DELETE", "/apps/KV/i-1")
	in := f.apps("/apps/delta").Regional[0].Instances[0]
	if in.Action != eureka.ActionDeleted || in.Lease.Evicted == 0 {
		t.Errorf("one that left: %+v %+v", in, in.Lease)
	}
}
