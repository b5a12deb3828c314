package registry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flix-lab/flix/services/addresstest"
	"github.com/flix-lab/flix/services/lookup/eureka"
	"github.com/flix-lab/flix/services/registry"
	"github.com/flix-lab/flix/topology"
)

// asked is one request that both servers get.
type asked struct{ method, path, accept, body, header string }

// answersAsked go from an empty registry through the life of an instance.
func answersAsked() []asked {
	const j, x = eureka.JSON, eureka.XML
	var out []asked
	add := func(method, path, accept, body string, header ...string) {
		out = append(out, asked{method, path, accept, body, strings.Join(header, "")})
	}
	look := func() {
		for _, accept := range []string{j, x} {
			for _, path := range []string{"/apps", "/apps/delta", "/apps/KV", "/apps/kv/i-1", "/instances/i-1", "/vips/none"} {
				add("GET", path, accept, "")
				add("GET", path, accept, "", "compact")
			}
		}
	}
	look()
	add("POST", "/apps/KV", j, stock("KV", "i-1", "UP", 7))
	look()
	for _, path := range []string{"/apps", "/apps/KV/i-1", "/apps/NONE"} {
		for _, accept := range []string{"text/html", "*/*", "", "application/json, application/*+json"} {
			add("GET", path, accept, "")
		}
		add("OPTIONS", path, j, "")
		add("HEAD", path, j, "")
		add("PATCH", path, j, "")
	}
	for _, replica := range []string{"", "replica"} {
		for _, q := range []string{"", "?status=UP", "?lastDirtyTimestamp=6", "?lastDirtyTimestamp=7", "?lastDirtyTimestamp=8", "?overriddenstatus=DOWN&lastDirtyTimestamp=7"} {
			add("PUT", "/apps/KV/i-1"+q, j, "", replica)
		}
	}
	for _, path := range []string{"/apps/KV/none", "/apps/NONE/i-1", "/apps/KV/none/status?value=UP", "/apps/KV/none/status", "/apps/KV/none/metadata?a=b"} {
		add("PUT", path, j, "")
		add("DELETE", path, j, "")
	}
	add("DELETE", "/apps/KV/i-1/status?value=DOWN", j, "")
	for _, v := range []string{"OUT_OF_SERVICE", "DOWN", "STARTING", "UP"} {
		add("PUT", "/apps/KV/i-1/status?value="+v, j, "")
		add("GET", "/apps/KV/i-1", j, "")
	}
	add("DELETE", "/apps/KV/i-1/status?value=UP", j, "")
	add("PUT", "/apps/KV/i-1/metadata?a=b&c=", j, "")
	look()
	add("POST", "/apps/KV", j, strings.Replace(stock("KV", "i-1", "DOWN", 9), `"port":{"$":8080,"@enabled":"true"},`, `"appGroupName":"g",`, 1))
	look()
	// Once only: the original keeps what it answered for a VIP that is one of a
	// list, whatever becomes of its instances.
	for _, accept := range []string{j, x} {
		for _, path := range []string{"/vips/kv", "/vips/kv2", "/svips/kvs"} {
			add("GET", path, accept, "")
			add("GET", path, accept, "", "compact")
		}
	}
	for _, body := range []string{"{", "{}", `{"instance":null}`, strings.Replace(stock("KV", "i-1", "UP", 1), "MyOwn", "Cellar", 1), stock("OTHER", "i-1", "UP", 1), strings.Replace(stock("KV", "i-1", "UP", 1), "127.0.0.1", "", 1)} {
		add("POST", "/apps/KV", j, body)
	}
	add("DELETE", "/apps/KV/i-1", j, "")
	add("DELETE", "/apps/KV/i-1", j, "")
	look()
	return out
}

func (f *fixture) answer(a asked) reply {
	f.t.Helper()
	var h []string
	switch a.header {
	case "compact":
		h = []string{"X-Eureka-Accept", "compact"}
	case "replica":
		h = []string{"X-Netflix-Discovery-Replication", "true"}
	}
	return f.do(a.method, a.path, a.accept, a.body, h...)
}

var (
	moment = regexp.MustCompile(`\b1[0-9]{12}\b`)
	indent = regexp.MustCompile(`>\s+<`)
	nth    = regexp.MustCompile(`(versions__delta(?:":"|>))-?[0-9]+`)
)

// plain is an answer without what tells two runs apart: times, the count of
// changes and how XML is set out.
func plain(t *testing.T, b []byte) any {
	s := nth.ReplaceAllString(moment.ReplaceAllString(string(b), "0"), "${1}0")
	if !strings.HasPrefix(s, "{") {
		return strings.TrimSpace(strings.ReplaceAll(indent.ReplaceAllString(s, "><"), "$EmptyMap\"/>", "$EmptyMap\"></metadata>"))
	}
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return v
}

// TestOriginalAnswers asks the original's server and ours the same, in the same
// order, and compares status, media type and every member of what is found.
// Refusals have a body of our own.
func TestOriginalAnswers(t *testing.T) {
	classpath := java(t)
	ours := startWith(t, topology.ProductionTiming(), func(d *registry.Deps) { d.Clock = nil })
	// Its peer is away: one that is itself has it hear its own words again, late.
	theirs := startOriginal(t, classpath, addresstest.Port(t), fmt.Sprintf("http://127.0.0.1:%d/eureka/v2/", addresstest.Port(t)), true, "eureka.shouldUseReadOnlyResponseCache=false")
	for n, a := range answersAsked() {
		their, our := theirs.answer(a), ours.answer(a)
		what := fmt.Sprintf("%d: %s %s (%s, %s)", n, a.method, a.path, a.accept, a.header)
		if their.status != our.status {
			t.Errorf("%s: %d %s, and the original %d %s", what, our.status, our.body, their.status, their.body)
			continue
		}
		if their.status != http.StatusOK || a.method == http.MethodHead || len(their.body) == 0 {
			continue
		}
		if tm, om := their.header.Get("Content-Type"), our.header.Get("Content-Type"); tm != om {
			t.Errorf("%s: Content-Type %q, and the original %q", what, om, tm)
		}
		if diff := cmp.Diff(plain(t, their.body), plain(t, our.body)); diff != "" {
			t.Errorf("%s: the original -, ours +\n%s", what, diff)
		}
	}
}
