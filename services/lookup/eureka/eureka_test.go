package eureka

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const wire = `{"instance":{"instanceId":"i-1","hostName":"h","app":"KV","ipAddr":"127.0.0.1","status":"UP","overriddenstatus":"DOWN",
"port":{"$":"8080","@enabled":true},"dataCenterInfo":{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"},
"leaseInfo":{"renewalIntervalInSecs":"30","durationInSecs":90},"metadata":{"@class":"m","a_b":"1","n":2,"t":true,"$x":"<&>"},
"lastDirtyTimestamp":17,"lastUpdatedTimestamp":"18"}}`

func TestLenientReading(t *testing.T) {
	in, err := DecodeInstance([]byte(wire), JSON)
	if err != nil {
		t.Fatal(err)
	}
	want := &Instance{
		InstanceID: "i-1", HostName: "h", App: "KV", IPAddr: "127.0.0.1", Status: "UP", OverriddenStatus: "DOWN",
		Port: Port{8080, true}, SecurePort: Port{7002, false}, DataCenter: DataCenter{Class: ClassMyOwn, Name: "MyOwn"}, Lease: &Lease{RenewalSecs: 30, DurationSecs: 90},
		Metadata: Metadata{"a_b": "1", "n": "2", "t": "true", "$x": "<&>"}, LastDirty: 17, LastUpdated: 18,
	}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Error(diff)
	}
	a, err := DecodeApplications([]byte(`{"applications":{"versions__delta":"1","apps__hashcode":"UP_1_","application":{"name":"KV","instance":{"instanceId":"i"}}}}`))
	if err != nil || len(a.Regional) != 1 || len(a.Regional[0].Instances) != 1 {
		t.Errorf("single objects: %+v, %v", a, err)
	}
}

func TestBothFormsRoundTrip(t *testing.T) {
	in, err := DecodeInstance([]byte(wire), JSON)
	if err != nil {
		t.Fatal(err)
	}
	for _, media := range []string{JSON, XML} {
		b, err := EncodeInstance(in, media)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeInstance(b, media)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if back.DataCenter.Metadata == nil {
			back.DataCenter.Metadata = in.DataCenter.Metadata
		}
		if diff := cmp.Diff(in, back); diff != "" {
			t.Errorf("%s: %s\n%s", media, diff, b)
		}
	}
}

func TestHash(t *testing.T) {
	if h := Hash(map[string]int{"UP": 2, "DOWN": 1, "STARTING": 0}); h != "DOWN_1_UP_2_" {
		t.Error(h)
	}
}

func TestHasVIP(t *testing.T) {
	in := Instance{VIP: "kv, KV2,", SecureVIP: "s"}
	for vip, want := range map[string]bool{"KV": true, "kv2": true, "": false, "k": false} {
		if in.HasVIP(vip) != want {
			t.Errorf("HasVIP(%q) is not %v", vip, want)
		}
	}
	if !in.HasSecureVIP("S") {
		t.Error("HasSecureVIP")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(wire), false)
	f.Add([]byte(`{"applications":{"application":{"name":"A","instance":[]}}}`), false)
	f.Add([]byte(`<instance><app>KV</app><port enabled="true">80</port><metadata><a__b>1</a__b><_.0024_x>2</_.0024_x></metadata></instance>`), true)
	f.Fuzz(func(t *testing.T, b []byte, isXML bool) {
		_, _ = DecodeApplications(b) // must not panic
		media := JSON
		if isXML {
			media = XML
		}
		in, err := DecodeInstance(b, media)
		if err != nil {
			return
		}
		out, err := EncodeInstance(in, JSON)
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		back, err := DecodeInstance(out, JSON)
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, out)
		}
		if back.InstanceID != in.InstanceID {
			t.Fatalf("%q became %q", in.InstanceID, back.InstanceID)
		}
		for _, f := range []Form{{XML: true}, {XML: true, Compact: true}} {
			doc := AppendDocument(nil, in, f)
			if _, err := DecodeInstance(doc, XML); err != nil {
				t.Fatalf("cannot read the XML that was written: %v\n%s", err, doc)
			}
		}
	})
}

func FuzzMetadataName(f *testing.F) {
	for _, s := range []string{"", "a_b", "_", "__", "_.", "$x", "1a", "é", "a b", "_.0024_"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if string([]rune(name)) != name {
			return // not UTF-8: cannot be in a document
		}
		in := &Instance{Metadata: Metadata{name: "v"}}
		b, err := EncodeInstance(in, XML)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeInstance(b, XML)
		if err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if !maps.Equal(back.Metadata, in.Metadata) {
			t.Fatalf("%q became %q\n%s", in.Metadata, back.Metadata, b)
		}
	})
}
