package eureka

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
)

// Media types of the two forms.
const (
	JSON = "application/json"
	XML  = "application/xml"
)

// EncodeApplications writes the registry or a delta.
func EncodeApplications(a *Applications, media string) ([]byte, error) {
	return encode("applications", a, media)
}

// EncodeApplication writes one application.
func EncodeApplication(a *Application, media string) ([]byte, error) {
	return encode("application", a, media)
}

// EncodeInstance writes one instance.
func EncodeInstance(i *Instance, media string) ([]byte, error) {
	return encode("instance", i, media)
}

func encode(root string, v any, media string) ([]byte, error) {
	if media == XML {
		return xml.Marshal(named{root, v})
	}
	return json.Marshal(map[string]any{root: v})
}

// named writes a value under an element of the given name.
type named struct {
	name  string
	value any
}

// MarshalXML implements xml.Marshaler.
func (n named) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	return e.EncodeElement(n.value, xml.StartElement{Name: xml.Name{Local: n.name}})
}

// DecodeApplications reads the registry or a delta in JSON.
func DecodeApplications(b []byte) (*Applications, error) {
	var doc struct {
		Applications *Applications `json:"applications"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("applications: %w", err)
	}
	if doc.Applications == nil {
		return nil, errors.New(`applications: the document has no "applications"`)
	}
	return doc.Applications, nil
}

// DecodeInstance reads one instance in the given form.
func DecodeInstance(b []byte, media string) (*Instance, error) {
	if media == XML {
		var i Instance
		if err := xml.Unmarshal(b, &i); err != nil {
			return nil, fmt.Errorf("instance: %w", err)
		}
		return &i, nil
	}
	var doc struct {
		Instance *Instance `json:"instance"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("instance: %w", err)
	}
	if doc.Instance == nil {
		return nil, errors.New(`instance: the document has no "instance"`)
	}
	return doc.Instance, nil
}
