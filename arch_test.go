// Package flix_test holds the rules of the tree that the compiler does not
// know: who may import whom, what a package must say about itself, and what no
// package may do.
package flix_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/flix-lab/flix"

// pkg is what go list says of a package, with paths relative to the module.
type pkg struct {
	ImportPath, Name, Dir, Doc         string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
	rel                                string
	own, foreign, testOwn, testForeign []string
}

// rule says what packages of a kind may import from this module.
type rule struct {
	name string
	is   func(rel string) bool
	may  func(rel string) bool
}

// shared are the packages under services that are no roles: every role and the
// appliance may build on them.
var shared = []string{
	"services/edge", "services/events", "services/evcache", "services/gateway/wire", "services/kv", "services/lookup", "services/lookup/eureka",
	"services/media", "services/objects", "services/resilience", "services/resilience/cost", "services/resilience/limit", "services/rpc", "services/search", "services/sidecar", "services/sqldb",
	"services/telemetry", "services/token",
}

// adapters are the stores behind the ports kv, sqldb and search. Only the
// wiring knows which one there is.
var adapters = []string{
	"services/kv/cassandra", "services/kv/embedded", "services/sqldb/mariadb", "services/sqldb/embedded",
	"services/search/opensearch", "services/search/embedded",
}

func one(of ...string) func(string) bool {
	return func(rel string) bool { return slices.Contains(of, rel) }
}

func under(dirs ...string) func(string) bool {
	return func(rel string) bool {
		return slices.ContainsFunc(dirs, func(d string) bool { return rel == d || strings.HasPrefix(rel, d+"/") })
	}
}

func any(of ...func(string) bool) func(string) bool {
	return func(rel string) bool {
		return slices.ContainsFunc(of, func(f func(string) bool) bool { return f(rel) })
	}
}

func none(string) bool { return false }

// generated says whether a package is one of generated code.
func generated(rel string) bool {
	return strings.HasPrefix(rel, "services/") && strings.HasSuffix(rel, "pb")
}

// suite says whether a package is a contract suite, e.g. services/kv/kvtest.
func suite(rel string) bool { return strings.HasSuffix(rel, "test") }

// rules are tried in order; the first that is about a package counts.
var rules = []rule{
	{"topology: values, the standard library and YAML only", one("topology"), none},
	{"services (root): the standard library and topology", one("services"), one("topology")},
	{"*pb: generated code only", generated, generated},
	{"contract suites: the port they test and the values it speaks of", suite, any(one("services", "topology", "lab/runtime"), one(shared...))},
	{"shared packages and store adapters: services, topology, pb and one another, never a role", any(one(shared...), one(adapters...)), any(one("services", "topology"), generated, one(shared...))},
	{"a role: services, topology, pb and shared packages, never another role or a store's adapter", under("services"), any(one("services", "topology"), generated, one(shared...))},
	{"oca: its own parts, services, topology, pb and shared packages", under("oca"), any(under("oca"), one("services", "topology"), generated, one(shared...))},
	{"fixtures/gen: what packages media, and topology", one("fixtures/gen"), one("topology", "services", "services/media")},
	{"fixtures: topology", under("fixtures"), one("topology")},
	{"lab: everything but cmd", under("lab"), under("fixtures", "lab", "oca", "services", "topology")},
	{"cmd/flix: lab, topology, fixtures and the services root; no role", under("cmd"), any(under("cmd", "lab"), one("topology", "fixtures", "services"))},
}

// homes are the only places that may import some foreign modules.
var homes = []struct{ prefix, home string }{
	{"github.com/testcontainers/", "lab/runtime/containers"},
	{"github.com/docker/", "lab/runtime/containers"},
	{"github.com/moby/", "lab/runtime/containers lab/runtime/containers/images"},
	{"github.com/gocql/", "services/kv/cassandra"},
	{"github.com/apache/cassandra-gocql-driver", "services/kv/cassandra"},
	{"github.com/olekukonko/tablewriter", "cmd/flix/render cmd/flix/tui"},
	{"github.com/fatih/color", "cmd/flix/render cmd/flix/tui"},
	{"github.com/charmbracelet/", "cmd/flix/render cmd/flix/tui"},
	{"github.com/NimbleMarkets/ntcharts", "cmd/flix/tui"},
	{"github.com/spf13/", "cmd/flix"},
	{"github.com/cockroachdb/pebble", "services/kv/embedded"},
	{"github.com/go-sql-driver/", "services/sqldb/mariadb"},
	{"modernc.org/sqlite", "services/sqldb/embedded"},
	{"github.com/blevesearch/", "services/search/embedded"},
	{"github.com/twmb/franz-go", "services/events lab/e2e"},
	{"github.com/minio/", "services/objects lab/e2e"},
	{"github.com/failsafe-go/", "services/resilience services/gateway"},
}

// top are the only folders at the top that hold code.
var top = []string{"cmd", "fixtures", "lab", "oca", "services", "topology"}

// vague names say nothing of what is in a package.
var vague = []string{"utils", "util", "common", "helpers", "helper", "types", "constants", "misc", "pkg", "shared", "base"}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		p.rel = relative(p.ImportPath)
		p.own, p.foreign = split(p.Imports)
		p.testOwn, p.testForeign = split(slices.Concat(p.TestImports, p.XTestImports))
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list shows %d packages: something is wrong with this test", len(all))
	}
	return all
}

func relative(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

// split parts imports into this module's and foreign modules'.
func split(imports []string) (own, foreign []string) {
	for _, i := range imports {
		switch first, _, _ := strings.Cut(i, "/"); {
		case i == module || strings.HasPrefix(i, module+"/"):
			own = append(own, relative(i))
		case strings.Contains(first, "."):
			foreign = append(foreign, i)
		}
	}
	return own, foreign
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		if p.rel == "" {
			continue
		}
		n := slices.IndexFunc(rules, func(r rule) bool { return r.is(p.rel) })
		if n < 0 {
			t.Errorf("%s: no rule of the tree is about it", p.rel)
			continue
		}
		for _, i := range p.own {
			switch {
			case suite(i) && !suite(p.rel):
				t.Errorf("%s imports %s: contract suites are for tests", p.rel, i)
			case !rules[n].may(i) && !suite(i):
				t.Errorf("%s imports %s, against %q", p.rel, i, rules[n].name)
			}
		}
		for _, i := range slices.Concat(p.own, p.testOwn) {
			if under("cmd")(i) && !under("cmd")(p.rel) {
				t.Errorf("%s imports %s: nobody imports a command", p.rel, i)
			}
		}
	}
}

func TestForeignImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, i := range slices.Concat(p.foreign, p.testForeign) {
			for _, h := range homes {
				if strings.HasPrefix(i, h.prefix) && !slices.Contains(strings.Fields(h.home), p.rel) && !slices.Contains(p.testOnly(), i) {
					t.Errorf("%s imports %s; its only home is %s", p.rel, i, strings.ReplaceAll(h.home, " ", " and "))
				}
			}
			if one("topology")(p.rel) && !strings.HasPrefix(i, "gopkg.in/yaml") && !slices.Contains(p.testOnly(), i) {
				t.Errorf("topology imports %s: it is made of values, the standard library and YAML", i)
			}
			if p.rel == "services" {
				t.Errorf("services imports %s: its root is made of the standard library and topology", i)
			}
			if generated(p.rel) && !strings.HasPrefix(i, "google.golang.org/") {
				t.Errorf("%s imports %s: generated code needs gRPC and protobuf only", p.rel, i)
			}
		}
	}
}

// testOnly lists the foreign packages that only tests import. Outside clients
// of the wire are welcome there, the Docker client is not.
func (p pkg) testOnly() []string {
	var out []string
	for _, i := range p.testForeign {
		docker := strings.HasPrefix(i, "github.com/testcontainers/") || strings.HasPrefix(i, "github.com/docker/")
		if !slices.Contains(p.foreign, i) && !docker {
			out = append(out, i)
		}
	}
	return out
}

func TestNamesAndDocs(t *testing.T) {
	for _, p := range packages(t) {
		if p.rel == "" {
			if len(p.GoFiles) > 0 {
				t.Errorf("the root holds no package, but %v", p.GoFiles)
			}
			continue
		}
		if first, _, _ := strings.Cut(p.rel, "/"); !slices.Contains(top, first) {
			t.Errorf("%s: code lives in %s only", p.rel, strings.Join(top, ", "))
		}
		for _, part := range append(strings.Split(p.rel, "/"), p.Name) {
			if slices.Contains(vague, part) {
				t.Errorf("%s: %q says nothing of what is in it", p.rel, part)
			}
		}
		if p.Doc == "" && len(p.GoFiles) > 0 && !generated(p.rel) {
			t.Errorf("%s: the package has no doc comment", p.rel)
		}
		if p.Name != "main" && p.Name != path.Base(p.rel) && len(p.GoFiles) > 0 {
			t.Errorf("%s: its name is %s", p.rel, p.Name)
		}
	}
}

// TestCode reads every file: no init, no end of the process and no reading of
// its environment below main, and no sleeping in tests but on synctest's clock.
func TestCode(t *testing.T) {
	for _, p := range packages(t) {
		files := map[string]bool{} // name → is a test
		for _, f := range p.GoFiles {
			files[f] = p.rel == "services/dockertest" // it is for tests alone
		}
		for _, f := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			files[f] = true
		}
		for name, test := range files {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if ast.IsGenerated(f) {
				continue
			}
			bad := func(n ast.Node, text string) {
				t.Errorf("%s:%d: %s", path.Join(p.rel, name), set.Position(n.Pos()).Line, text)
			}
			for _, d := range f.Decls {
				// gRPC finds policies in a table that only an init may write.
				needed := path.Join(p.rel, name) == "services/rpc/choice.go"
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !needed {
					bad(fn, "init runs behind everybody's back: construct it where it is needed")
				}
			}
			if test {
				sleeps(f, bad)
			} else if p.Name != "main" && p.rel != "cmd/flix/quiet" { // quiet: see its doc comment
				process(f, bad)
			}
		}
	}
}

// called is "pkg.Func" of a call of a function of another package, else "".
func called(n ast.Node) string {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + s.Sel.Name
}

func sleeps(f *ast.File, bad func(ast.Node, string)) {
	bubbles := bubbles(f)
	ast.Inspect(f, func(n ast.Node) bool {
		if called(n) == "time.Sleep" {
			bad(n, "a test that sleeps is slow or fails at random: wait for the condition, or use testing/synctest")
		}
		if c, ok := n.(*ast.CallExpr); ok {
			if fn, ok := c.Fun.(*ast.Ident); ok && bubbles[fn.Name] {
				return false
			}
		}
		return n == nil || called(n) != "synctest.Test" // time is fake in there
	})
}

// bubbles names the functions of a file that run what they are given in a
// synctest bubble.
func bubbles(f *ast.File) map[string]bool {
	out := map[string]bool{}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || strings.HasPrefix(fn.Name.Name, "Test") {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			if n != nil && called(n) == "synctest.Test" {
				out[fn.Name.Name] = true
			}
			return true
		})
	}
	return out
}

func process(f *ast.File, bad func(ast.Node, string)) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch name := called(n); name {
		case "os.Getenv", "os.LookupEnv", "os.Environ", "os.Setenv":
			bad(n, name+" below main: take it as an argument")
		case "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf":
			bad(n, name+" below main: return an error")
		}
		return true
	})
}
