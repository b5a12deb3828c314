package eureka

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Media types of the two forms.
const (
	JSON = "application/json"
	XML  = "application/xml"
)

// Form is a media type and whether the short record of an instance is written
// (X-Eureka-Accept: compact).
type Form struct {
	// XML is the XML form, else JSON.
	XML bool
	// Compact leaves out what a client needs only to manage an instance.
	Compact bool
}

// Media is the form's media type.
func (f Form) Media() string {
	if f.XML {
		return XML
	}
	return JSON
}

func form(media string) Form { return Form{XML: media == XML} }

// EncodeInstance writes one instance as a document of its own.
func EncodeInstance(i *Instance, media string) ([]byte, error) {
	return AppendDocument(nil, i, form(media)), nil
}

// errNotUTF8 refuses what no document of either form may hold.
var errNotUTF8 = errors.New("the document is not UTF-8")

// DecodeApplications reads the registry or a delta in JSON.
func DecodeApplications(b []byte) (*Applications, error) {
	var doc struct {
		Applications *Applications `json:"applications"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, trouble("applications", err)
	}
	if doc.Applications == nil {
		return nil, errors.New(`applications: the document has no "applications"`)
	}
	return doc.Applications, nil
}

// DecodeInstance reads one instance in the given form.
func DecodeInstance(b []byte, media string) (*Instance, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("instance: %w", errNotUTF8)
	}
	if media == XML {
		doc := struct {
			Instance
			// Camel is how some clients write what the original writes in
			// lower case.
			Camel string `xml:"overriddenStatus"`
		}{Instance: unsaid()}
		if err := xml.Unmarshal(b, &doc); err != nil {
			return nil, trouble("instance", err)
		}
		doc.OverriddenStatus = cmp.Or(doc.OverriddenStatus, doc.Camel)
		return &doc.Instance, nil
	}
	var doc struct {
		Instance json.RawMessage `json:"instance"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, trouble("instance", err)
	}
	if len(doc.Instance) == 0 || string(doc.Instance) == "null" {
		return nil, errors.New(`instance: the document has no "instance"`)
	}
	i := unsaid()
	if err := json.Unmarshal(doc.Instance, &i); err != nil {
		return nil, trouble("instance", err)
	}
	return &i, nil
}

// unsaid is an instance that says nothing of itself: it has the ports that the
// original takes it to have then.
func unsaid() Instance {
	return Instance{Port: Port{Number: 7001, Enabled: true}, SecurePort: Port{Number: 7002}}
}
