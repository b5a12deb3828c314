package eureka

import (
	"strings"
	"testing"
)

// What is wrong with a document is told by its own names, in either form.
func TestWhatIsWrongWithADocument(t *testing.T) {
	const (
		goodJSON = `{"instance":{"hostName":"h","status":"UP","port":{"$":80,"@enabled":"true"},"dataCenterInfo":{"name":"MyOwn"},"leaseInfo":{"durationInSecs":90},"metadata":{"a":"b"}}}`
		goodXML  = `<instance><hostName>h</hostName><port enabled="true"> 80 </port><leaseInfo><durationInSecs>90.0</durationInSecs></leaseInfo><lastDirtyTimestamp></lastDirtyTimestamp></instance>`
	)
	for media, good := range map[string]string{JSON: goodJSON, XML: goodXML} {
		i, err := DecodeInstance([]byte(good), media)
		if err != nil || i.Port != (Port{80, true}) || i.Lease.DurationSecs != 90 {
			t.Fatalf("%s: %+v, %v", media, i, err)
		}
	}
	for _, tt := range []struct{ media, old, with, want string }{
		{JSON, `"h"`, `17`, "instance: hostName: a number is not a string"},
		{JSON, `"h"`, `{}`, "instance: hostName: an object is not a string"},
		{JSON, `80`, `"eighty"`, `instance: port.$: "eighty" is not an integer`},
		{JSON, `{"$":80,"@enabled":"true"}`, `[1]`, `instance: port: "[1]" is not an integer`},
		{JSON, `"true"`, `"maybe"`, `instance: port.@enabled: "maybe" is not true or false`},
		{JSON, `{"name":"MyOwn"}`, `"MyOwn"`, "instance: dataCenterInfo: a string is not an object"},
		{JSON, `90`, `"x"`, `instance: leaseInfo.durationInSecs: "x" is not an integer`},
		{JSON, `{"a":"b"}`, `[]`, "instance: metadata: a list is not an object"},
		{JSON, `"b"`, `{"c":1}`, "instance: metadata.a: an object is not a string"},
		{JSON, goodJSON, `[]`, "instance: the document: a list is not an object"},
		{JSON, goodJSON, `{"instance":5}`, "instance: the document: a number is not an object"},
		{JSON, goodJSON, `hello`, "instance: no JSON at byte 1: "},
		{JSON, goodJSON, ``, "instance: no JSON at byte 0: "},
		{XML, ` 80 `, `eighty`, `instance: port: "eighty" is not an integer`},
		{XML, `"true"`, `"maybe"`, `instance: port: "maybe" is not true or false`},
		{XML, `90.0`, `x`, `instance: durationInSecs: "x" is not an integer`},
		{XML, `<lastDirtyTimestamp>`, `<lastDirtyTimestamp>soon`, `instance: lastDirtyTimestamp: "soon" is not an integer`},
		{XML, goodXML, `{}`, "instance: the document has no XML element"},
	} {
		good := map[string]string{JSON: goodJSON, XML: goodXML}[tt.media]
		_, err := DecodeInstance([]byte(strings.Replace(good, tt.old, tt.with, 1)), tt.media)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s with %s: %v, want %s", tt.media, tt.with, err, tt.want)
		}
	}
	if _, err := DecodeBatch([]byte(`{"replicationList":[{"action":5}]}`)); err == nil || err.Error() != "replication: replicationList.action: a number is not a string" {
		t.Errorf("a batch: %v", err)
	}
}
