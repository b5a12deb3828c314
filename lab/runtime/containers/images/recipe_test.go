package images

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/services"
)

// TestEmbedded compares the contexts in the binary with the folder: embedding
// leaves out what begins with "_" or "." unless it is told not to.
func TestEmbedded(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("context", func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		got, err := contexts.ReadFile(filepath.ToSlash(p))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not embedded as it is: %v", p, err)
		}
		seen++
		return nil
	})
	if err != nil || seen < 20 {
		t.Fatalf("%d files, %v", seen, err)
	}
}

func TestRecipes(t *testing.T) {
	all, err := recipes()
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{"": true}
	hashes := map[string]string{}
	for _, r := range all {
		if !made[r.base] {
			t.Errorf("%s is made before its base %s", r.name, r.base)
		}
		if !strings.HasPrefix(r.tag, "flix/") {
			t.Errorf("%s would be tagged %s", r.name, r.tag)
		}
		if other := hashes[r.content]; other != "" || len(r.content) != len("sha256:")+64 {
			t.Errorf("the hash of %s is %s, that of %q", r.name, r.content, other)
		}
		made[r.tag], hashes[r.content] = true, r.name
		files, err := contextFiles(r.name)
		if err != nil {
			t.Fatal(err)
		}
		if r.base != "" && !slices.Contains(files, "Dockerfile") {
			t.Errorf("%s has no Dockerfile", r.name)
		}
		if r.maven != slices.Contains(files, "pom.xml") {
			t.Errorf("%s: a pom.xml and no libraries, or the other way round", r.name)
		}
		if r.base == "" {
			continue
		}
		b, err := contexts.ReadFile(path.Join("context", r.name, "Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "FROM ${BASE}\nARG BUILD\nLABEL flix.build=${BUILD}\n") {
			t.Errorf("what a build of %s leaves half made is not found again: its Dockerfile does not begin with the label", r.name)
		}
	}
	for _, p := range pins() {
		if !made[p.built] {
			t.Errorf("nothing makes %s", p.built)
		}
	}
	again, err := recipes()
	if err != nil || !slices.Equal(again, all) {
		t.Errorf("the recipes differ from call to call: %v", err)
	}
}

// TestHash checks that what goes into an image is in its hash.
func TestHash(t *testing.T) {
	r := recipe{name: "memcached", tag: "flix/x:1", version: "1", base: baseReference}
	first, err := r.hash("sha256:a")
	if err != nil {
		t.Fatal(err)
	}
	other := r
	for name, change := range map[string]func() (string, error){
		"the base":    func() (string, error) { return r.hash("sha256:b") },
		"the context": func() (string, error) { other = r; other.name = "s3"; return other.hash("sha256:a") },
		"the version": func() (string, error) { other = r; other.version = "2"; return other.hash("sha256:a") },
		"the program": func() (string, error) { other = r; other.module = "m@v1"; return other.hash("sha256:a") },
	} {
		if got, err := change(); err != nil || got == first {
			t.Errorf("%s does not change the hash: %v", name, err)
		}
	}
}

func TestWanted(t *testing.T) {
	all, err := recipes()
	if err != nil {
		t.Fatal(err)
	}
	got, err := wanted(all, []Component{Kafka, S3})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got {
		names = append(names, r.name)
	}
	if !slices.Equal(names, []string{"debian", "java", "kafka", "s3"}) {
		t.Errorf("kafka and s3 are made of %v", names)
	}
}

func TestToolsAreMissing(t *testing.T) {
	rs, err := recipes()
	if err != nil {
		t.Fatal(err)
	}
	err = checkTools(rs, []string{"PATH=" + t.TempDir()})
	if err == nil {
		t.Fatal("nothing is missed")
	}
	for _, name := range []string{"debootstrap", "mvn", "go, which"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q is not missed in: %v", name, err)
		}
	}
	if services.KindOf(err) != services.Conflict {
		t.Errorf("the kind is %s", services.KindOf(err))
	}
	// What is not needed is not missed.
	if err := checkTools(nil, []string{"PATH=/none"}); err != nil {
		t.Error(err)
	}
}

func TestVersions(t *testing.T) {
	cases := []struct {
		c      Component
		ref    string
		labels map[string]string
		env    map[string]string
		got    string
		wrong  bool
	}{
		{Cassandra, "cassandra:5.0.5", nil, map[string]string{"CASSANDRA_VERSION": "5.0.5"}, "5.0.5", false},
		{Cassandra, "cassandra:5.0.5", nil, map[string]string{"CASSANDRA_VERSION": "5.0.50"}, "5.0.50", true},
		{MariaDB, "mariadb:10.11", nil, map[string]string{"MARIADB_VERSION": "1:10.11.14+maria~ubu2204"}, "10.11.14", false},
		{MariaDB, "mariadb:10.11", nil, map[string]string{"MARIADB_VERSION": "1:11.4.2+maria~ubu2204"}, "11.4.2", true},
		{MariaDB, "flix/mariadb:10.11", map[string]string{versionLabel: "10.11"}, nil, "10.11", false},
		{OpenSearch, "x/y:latest", map[string]string{"org.label-schema.version": "2.19.0"}, nil, "2.19.0", true},
		{S3, "versity/versitygw:v1.8.0", nil, nil, "1.8.0", false},
		{S3, "localhost:5000/versitygw:v1.7.0", nil, nil, "1.7.0", true},
		{Kafka, "apache/kafka:4.1.0", nil, nil, "4.1.0", false},
		{Kafka, "localhost:5000/kafka:latest", nil, nil, "", true},
		{FFmpeg, "jrottenberg/ffmpeg:5.1-ubuntu2204", nil, nil, "5.1", false},
	}
	for _, c := range cases {
		img := Image{ID: "sha256:x", OS: "linux", Architecture: goruntime.GOARCH, Labels: c.labels, Env: c.env}
		v := judge(Choice{c.c, c.ref, Official, &img})
		if v.Got != c.got || (v.Problem != "") != c.wrong || (v.Remedy != "") != c.wrong {
			t.Errorf("%s (%v, %v): version %q, problem %q, remedy %q", c.ref, c.labels, c.env, v.Got, v.Problem, v.Remedy)
		}
	}
	// An override may be silent about its version, but not of another machine.
	img := Image{OS: "linux", Architecture: goruntime.GOARCH}
	if v := judge(Choice{Kafka, "mine:latest", Override, &img}); v.Problem != "" {
		t.Errorf("a silent override: %q", v.Problem)
	}
	img.Architecture = "s390x"
	if v := judge(Choice{Kafka, "kafka:4.1.0", Override, &img}); !strings.Contains(v.Problem, "linux/s390x") {
		t.Errorf("another machine's image: %q", v.Problem)
	}
	if v := judge(Choice{Kafka, "apache/kafka:4.1.0", Official, nil}); v.Present || v.Problem == "" || !strings.Contains(v.Remedy, "flix images build") {
		t.Errorf("an image that is not here: %+v", v)
	}
}
