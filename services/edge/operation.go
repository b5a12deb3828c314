package edge

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/flix-lab/flix/services"
)

// Operation describes one route of an API: what its callers are told and what
// requests are checked by, before the role sees them.
type Operation struct {
	// Pattern of http.ServeMux with a method, e.g. "GET /discovery/titles/{id}".
	Pattern string
	// ID is the operation's name in clients made from the description.
	ID string
	// Summary says in a line what it does.
	Summary string
	// Body is a zero value of the request body's type; nil takes none.
	Body any
	// Reply is a zero value of the answer's type; nil answers 204.
	Reply any
	// Produces is the media type of the answer if that is a Content; Reply is
	// nil then.
	Produces string
	// Params are in the path and the query.
	Params []Param
	// Member says that the route needs a member token; see HandleMember.
	Member bool
	// Fails are the kinds of failures a caller has to expect of this route,
	// beside those of every route: Invalid, Exhausted, Unavailable, Internal.
	Fails []services.Kind
}

// Param is a parameter in the path or the query.
type Param struct {
	Name, In, Doc string
	Required      bool
	Schema        Schema
}

func (o Operation) method() string { m, _, _ := strings.Cut(o.Pattern, " "); return m }
func (o Operation) path() string   { _, p, _ := strings.Cut(o.Pattern, " "); return p }

// statuses that the operation answers failures with.
func (o Operation) statuses() []int {
	kinds := append([]services.Kind{services.Invalid, services.Exhausted, services.Unavailable, services.Internal}, o.Fails...)
	out := []int{http.StatusMethodNotAllowed, http.StatusBadGateway, http.StatusGatewayTimeout} // the gateway's
	if o.Body != nil {
		out = append(out, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if o.Member {
		out = append(out, http.StatusUnauthorized, services.Denied.HTTPStatus())
	}
	for _, k := range kinds {
		out = append(out, k.HTTPStatus())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Info names the API that a document describes.
type Info struct {
	Title, Version, Summary string
}

// produced describes a body that is not JSON. What a schema would be about where
// the body is a stream of events, OpenAPI before 3.2 does not say: readers take it
// to be about each of them, or about the text.
func produced(mediaType string) map[string]any {
	if mediaType == "text/event-stream" {
		return map[string]any{}
	}
	return map[string]any{"schema": &Schema{Type: "string"}}
}

// Document is the OpenAPI 3.1 description of operations, as JSON. It panics on
// two types of one name that differ: they are the program's own.
func Document(info Info, ops ...Operation) []byte {
	all, paths := schemas{}, map[string]map[string]any{}
	problem := all.of(reflect.TypeFor[services.Problem]())
	for _, o := range ops {
		responses := map[string]any{}
		for _, status := range o.statuses() {
			responses[strconv.Itoa(status)] = answer(http.StatusText(status), problem)
		}
		switch {
		case o.Produces != "":
			responses["200"] = map[string]any{"description": "the answer", "content": map[string]any{o.Produces: produced(o.Produces)}}
		case o.Reply == nil:
			responses["204"] = map[string]any{"description": "done"}
		default:
			responses["200"] = answer("the answer", all.named(reflect.TypeOf(o.Reply)))
		}
		d := map[string]any{"operationId": o.ID, "summary": o.Summary, "responses": responses}
		if o.Body != nil {
			d["requestBody"] = map[string]any{"required": true, "content": content(all.named(reflect.TypeOf(o.Body)))}
		}
		if len(o.Params) > 0 {
			var ps []any
			for _, p := range o.Params {
				ps = append(ps, map[string]any{"name": p.Name, "in": p.In, "required": p.Required, "description": p.Doc, "schema": p.Schema})
			}
			d["parameters"] = ps
		}
		if o.Member {
			d["security"] = []any{map[string]any{"member": []string{}}}
		}
		if paths[o.path()] == nil {
			paths[o.path()] = map[string]any{}
		}
		paths[o.path()][strings.ToLower(o.method())] = d
	}
	b, err := json.Marshal(map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": info.Title, "version": info.Version, "summary": info.Summary},
		"paths":   paths,
		"components": map[string]any{
			"schemas": all,
			"securitySchemes": map[string]any{"member": map[string]any{
				"type": "http", "scheme": "bearer", "description": "the token that sign-in and sign-up answer with",
			}},
		},
	})
	if err != nil { // it holds strings, numbers, lists and maps
		panic("edge: document: " + err.Error())
	}
	return b
}

// named describes a type and checks that no other has its name.
func (all schemas) named(t reflect.Type) *Schema {
	for t.Kind() == reflect.Slice {
		return &Schema{Type: "array", Items: all.named(t.Elem())}
	}
	if had, ok := all[t.Name()]; ok {
		if fresh := (schemas{}).object(t); !sameFields(had, fresh) {
			panic("edge: two types of the API are named " + t.Name())
		}
	}
	return all.of(t)
}

func sameFields(a, b *Schema) bool {
	if len(a.Properties) != len(b.Properties) {
		return false
	}
	for name := range a.Properties {
		if b.Properties[name] == nil {
			return false
		}
	}
	return true
}

func answer(description string, s *Schema) map[string]any {
	return map[string]any{"description": description, "content": content(s)}
}

func content(s *Schema) map[string]any {
	return map[string]any{"application/json": map[string]any{"schema": s}}
}
