package edge

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/telemetry"
)

type inner struct {
	Name string `json:"name" rule:"required;min=1;max=3" pattern:"^[a-z]+$"`
}

// shown is an answer; what is left out when it is empty is not always there.
type shown struct {
	Name  string    `json:"name"`
	Note  string    `json:"note,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

type full struct {
	inner
	Kind  string   `json:"kind" rule:"required;enum=a|b"`
	Count int      `json:"count" rule:"optional;min=0;max=9"`
	Ratio float64  `json:"ratio" rule:"optional;min=0"`
	Flag  bool     `json:"flag" rule:"optional"`
	Tags  []string `json:"tags" rule:"optional;items=2;each=3"`
	Sub   *inner   `json:"sub" rule:"optional"`
}

func TestRequestsAreCheckedByTheirDescription(t *testing.T) {
	e := New("x", telemetry.Discard(), timing(time.Second))
	limit := 9.0
	e.Handle(Operation{Pattern: "POST /x/{id}", Body: full{}, Params: []Param{
		{Name: "id", In: "path", Required: true, Schema: Schema{Type: "string", Pattern: "^[0-9]+$"}},
		{Name: "limit", In: "query", Schema: Schema{Type: "integer", Minimum: new(float64), Maximum: &limit}},
		{Name: "q", In: "query", Schema: Schema{Type: "string"}},
	}}, func(r *http.Request) (any, error) {
		_, err := Decode[full](r)
		return nil, err
	})
	base, stop := serve(t, e)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, x := range []struct{ path, body, fault string }{
		{"/x/1", `{"name":"abc","kind":"a"}`, ""},
		{"/x/1?limit=9", `{"name":"abc","kind":"b","count":9,"ratio":1e3,"flag":true,"tags":["abc"],"sub":{"name":"a"},"more":[{}]}`, ""},
		{"/x/1", `{"name":"abc","kind":"a","count":9.0,"NAME":7,"Sub":1}`, ""},
		{"/x/1?limit=10", `{"name":"abc","kind":"a"}`, "limit: 10 is more than 9"},
		{"/x/1?limit=1e0", `{"name":"abc","kind":"a"}`, "limit: 1e0 is not a whole number"},
		{"/x/1?limit=", `{"name":"abc","kind":"a"}`, "limit: "},
		{"/x/1?limit=1&limit=2", `{"name":"abc","kind":"a"}`, "limit: it is there more than once"},
		{"/x/1?q=%F0%9F%98%80%00", `{"name":"abc","kind":"a"}`, ""},
		{"/x/1?q=a%FF", `{"name":"abc","kind":"a"}`, `q: "a\xff" is not UTF-8`},
		{"/x/one", `{"name":"abc","kind":"a"}`, `id: "one" is not of the form`},
		{"/x/1", `{"kind":"a"}`, "name: it is missing"},
		{"/x/1", `{"name":"","kind":"a"}`, "name: at least 1 character"},
		{"/x/1", `{"name":"abcd","kind":"a"}`, "name: at most 3 characters"},
		{"/x/1", `{"name":"ABC","kind":"a"}`, `name: "ABC" is not of the form`},
		{"/x/1", `{"name":null,"kind":"a"}`, "name: is not text"},
		{"/x/1", `{"name":"abc","kind":"c"}`, `kind: "c" is not one of a, b`},
		{"/x/1", `{"name":"abc","kind":"a","count":10}`, "count: 10 is more than 9"},
		{"/x/1", `{"name":"abc","kind":"a","count":1.5}`, "count: 1.5 is not a whole number"},
		{"/x/1", `{"name":"abc","kind":"a","count":-1}`, "count: -1 is less than 0"},
		{"/x/1", `{"name":"abc","kind":"a","ratio":"1"}`, "ratio: is not a number"},
		{"/x/1", `{"name":"abc","kind":"a","flag":0}`, "flag: is not true or false"},
		{"/x/1", `{"name":"abc","kind":"a","tags":["a","b","c"]}`, "tags: has 3 entries, at most 2"},
		{"/x/1", `{"name":"abc","kind":"a","tags":["abcd"]}`, "tags[0]: at most 3 characters"},
		{"/x/1", `{"name":"abc","kind":"a","sub":{"name":1}}`, "sub.name: is not text"},
		{"/x/1", `[]`, "the body is not a JSON object"},
		{"/x/1", `{"name":"","kind":"c"}`, `kind: "c" is not one of a, b; name: at least`},
	} {
		resp, err := client.Post(base+x.path, "application/json", strings.NewReader(x.body))
		if err != nil {
			t.Fatal(err)
		}
		var p services.Problem
		if resp.StatusCode != http.StatusNoContent {
			err = json.NewDecoder(resp.Body).Decode(&p)
		}
		_ = resp.Body.Close()
		if err != nil || (p.Reason != "") != (x.fault != "") || !strings.Contains(p.Error, x.fault) {
			t.Errorf("POST %s %s: %d %+v (%v), want %q", x.path, x.body, resp.StatusCode, p, err, x.fault)
		}
	}
	for method, want := range map[string]int{"GET": http.StatusMethodNotAllowed, "DELETE": http.StatusMethodNotAllowed} {
		req, err := http.NewRequestWithContext(t.Context(), method, base+"/x/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("Allow") != "POST" {
			t.Errorf("%s: %d, Allow %q", method, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
	resp, err := client.Post(base+"/x/1", "text/xml", strings.NewReader(`<a/>`))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("XML: %d", resp.StatusCode)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDocument(t *testing.T) {
	b := Document(Info{"X", "1", "an API"},
		Operation{Pattern: "POST /x/{id}", ID: "make", Body: full{}, Reply: []inner{}, Member: true, Fails: []services.Kind{services.Conflict}},
		Operation{Pattern: "GET /x/{id}", ID: "get", Reply: inner{}},
		Operation{Pattern: "GET /y", ID: "show", Reply: shown{}},
	)
	var d struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			ID        string         `json:"operationId"`
			Responses map[string]any `json:"responses"`
			Security  []any          `json:"security"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]Schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	post, get := d.Paths["/x/{id}"]["post"], d.Paths["/x/{id}"]["get"]
	if d.OpenAPI != "3.1.0" || post.ID != "make" || get.ID != "get" || post.Responses["409"] == nil || get.Responses["409"] != nil || len(post.Security) != 1 || get.Security != nil {
		t.Errorf("%s", b)
	}
	if got := d.Components.Schemas["shown"].Required; len(got) != 1 || got[0] != "name" {
		t.Errorf("an answer always has %v, want its name alone", got)
	}
	s := d.Components.Schemas["full"]
	if strings.Join(s.Required, " ") != "name kind" || s.Properties["tags"].Items.Type != "string" || s.Properties["sub"].Ref != "#/components/schemas/inner" || *s.Properties["count"].Maximum != 9 {
		t.Errorf("%s", b)
	}
}

// TestDocumentOfWhatIsNoJSON has a schema for a text, and none for a stream of
// events, which test tools would compare with each event.
func TestDocumentOfWhatIsNoJSON(t *testing.T) {
	var d struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct {
					Schema *Schema `json:"schema"`
				} `json:"content"`
			} `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(Document(Info{"X", "1", "an API"},
		Operation{Pattern: "GET /list", ID: "list", Produces: "application/vnd.apple.mpegurl"},
		Operation{Pattern: "GET /events", ID: "events", Produces: "text/event-stream"},
	), &d); err != nil {
		t.Fatal(err)
	}
	list, ok := d.Paths["/list"]["get"].Responses["200"].Content["application/vnd.apple.mpegurl"]
	if !ok || list.Schema == nil || list.Schema.Type != "string" {
		t.Errorf("the list: %+v", d.Paths["/list"])
	}
	events, ok := d.Paths["/events"]["get"].Responses["200"].Content["text/event-stream"]
	if !ok || events.Schema != nil {
		t.Errorf("the events: %+v", d.Paths["/events"])
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"name":"abc","kind":"a"}`, `{"name":1}`, `[]`, `{"tags":[[]],"count":1e400}`, `nul`, `{"sub":{"name":{}}}`} {
		f.Add(s)
	}
	g := newGuard(Operation{Body: full{}})
	f.Fuzz(func(t *testing.T, body string) {
		r, err := http.NewRequest("POST", "/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		status, err := g.request(r)
		if (status == 0) != (err == nil) {
			t.Fatalf("status %d with %v", status, err)
		}
		if err == nil {
			if _, err := Decode[full](r); err != nil {
				t.Fatalf("%s is let through, and then: %v", body, err)
			}
		}
	})
}
