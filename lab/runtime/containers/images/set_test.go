package images_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/flix-lab/flix/lab/runtime/containers/images"
	"github.com/flix-lab/flix/services"
)

// shelf is an engine that has some images, and a registry that has others.
type shelf struct {
	here, remote []string
	pulled       []string
	broken       error // what every inspection fails with
	pull         error // what every pull fails with
}

func (s *shelf) Inspect(_ context.Context, ref string) (images.Image, error) {
	if s.broken != nil {
		return images.Image{}, s.broken
	}
	if !slices.Contains(s.here, ref) {
		return images.Image{}, services.Errorf(services.NotFound, "no %s", ref)
	}
	return images.Image{ID: "sha256:" + ref, OS: "linux"}, nil
}

func (s *shelf) Pull(ctx context.Context, ref string) error {
	s.pulled = append(s.pulled, ref)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.pull != nil:
		return s.pull
	case !slices.Contains(s.remote, ref):
		return services.Errorf(services.NotFound, "manifest unknown")
	}
	s.here = append(s.here, ref)
	return nil
}

func TestResolve(t *testing.T) {
	const official, built = "cassandra:5.0.5", "flix/cassandra:5.0.5"
	override := map[images.Component]string{images.Cassandra: "mine/cassandra:5.0.6"}
	cases := []struct {
		name   string
		set    images.Set
		shelf  shelf
		want   string
		pulled []string
	}{
		{"the official one is here", images.Set{}, shelf{here: []string{official, built}}, official, nil},
		{"only the one built here is", images.Set{}, shelf{here: []string{built}, remote: []string{official}}, built, nil},
		{"none is here", images.Set{}, shelf{remote: []string{official}}, official, []string{official}},
		{"an override wins", images.Set{Overrides: override}, shelf{here: []string{official, built, "mine/cassandra:5.0.6"}}, "mine/cassandra:5.0.6", nil},
		{"an override is pulled", images.Set{Overrides: override}, shelf{here: []string{official}, remote: []string{"mine/cassandra:5.0.6"}}, "mine/cassandra:5.0.6", []string{"mine/cassandra:5.0.6"}},
		{"from a registry", images.Set{Prefix: "r.example:5000/m/"}, shelf{here: []string{official}, remote: []string{"r.example:5000/m/" + official}}, "r.example:5000/m/" + official, []string{"r.example:5000/m/" + official}},
		{"a registry is not for what is built here", images.Set{Prefix: "r.example"}, shelf{here: []string{built}}, built, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.set.Resolve(t.Context(), &c.shelf, images.Cassandra)
			if err != nil || got != c.want || !slices.Equal(c.shelf.pulled, c.pulled) {
				t.Errorf("Resolve = %q, %v and pulled %q; want %q, pulled %q", got, err, c.shelf.pulled, c.want, c.pulled)
			}
		})
	}
}

func TestResolveFails(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	cases := []struct {
		name   string
		ctx    context.Context
		set    images.Set
		shelf  shelf
		c      images.Component
		kind   services.Kind
		remedy []string
	}{
		{"no registry has it", t.Context(), images.Set{}, shelf{}, images.Kafka, services.Unavailable, []string{"flix images pull", "flix images build --only kafka", "flix images load FILE"}},
		{"the registry is out of reach", t.Context(), images.Set{}, shelf{pull: services.Errorf(services.Unavailable, "dial")}, images.Kafka, services.Unavailable, []string{"flix images build --only kafka"}},
		{"the disk is full", t.Context(), images.Set{}, shelf{pull: services.Errorf(services.Exhausted, "no space")}, images.Kafka, services.Exhausted, []string{"flix images"}},
		{"an override is wrong", t.Context(), images.Set{Overrides: map[images.Component]string{images.Kafka: "x/y:1"}}, shelf{here: []string{"apache/kafka:4.1.0"}}, images.Kafka, services.Unavailable, []string{"FLIX_IMAGE_KAFKA"}},
		{"the engine is out of reach", t.Context(), images.Set{}, shelf{broken: services.Errorf(services.Denied, "socket").WithRemedy("group")}, images.Kafka, services.Denied, []string{"group"}},
		{"no such component", t.Context(), images.Set{}, shelf{}, "redis", services.Invalid, []string{"cassandra, kafka"}},
		{"cancelled", cancelled, images.Set{}, shelf{}, images.Kafka, services.Unavailable, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.set.Resolve(c.ctx, &c.shelf, c.c)
			if services.KindOf(err) != c.kind {
				t.Fatalf("Resolve: %v, of kind %s; want %s", err, services.KindOf(err), c.kind)
			}
			var e *services.Error
			for _, r := range c.remedy {
				if !errors.As(err, &e) || !strings.Contains(e.Remedy, r) {
					t.Errorf("the remedy of %v is %q: it lacks %q", err, e.Remedy, r)
				}
			}
		})
	}
}

// TestResolveRefusesWhatCannotWork: an image is named that is for another kind
// of machine, or holds another Cassandra than the lab is made for.
func TestResolveRefusesWhatCannotWork(t *testing.T) {
	const ref = "mine/cassandra:latest"
	set := images.Set{Overrides: map[images.Component]string{images.Cassandra: ref}}
	for name, c := range map[string]struct {
		img  images.Image
		says string
	}{
		"another major version": {images.Image{OS: "linux", Env: map[string]string{"CASSANDRA_VERSION": "3.11.19"}}, "holds version 3.11.19, and the lab is made for 5.0.5"},
		"another machine":       {images.Image{OS: "linux", Architecture: "s390x"}, "is made for linux/s390x"},
		"a later patch":         {images.Image{OS: "linux", Env: map[string]string{"CASSANDRA_VERSION": "5.0.9"}}, ""},
		"no version":            {images.Image{OS: "linux"}, ""},
	} {
		got, err := set.Resolve(t.Context(), one{ref, c.img}, images.Cassandra)
		if c.says == "" {
			if err != nil || got != ref {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			continue
		}
		var e *services.Error
		if !errors.As(err, &e) || e.Kind != services.Conflict || e.Reason != images.ReasonWrongImage || !strings.Contains(err.Error(), c.says) || !strings.Contains(e.Remedy, "FLIX_IMAGE_CASSANDRA") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// one is an engine that has one image.
type one struct {
	ref string
	img images.Image
}

func (o one) Inspect(_ context.Context, ref string) (images.Image, error) {
	if ref != o.ref {
		return images.Image{}, services.Errorf(services.NotFound, "no %s", ref)
	}
	return o.img, nil
}

func (one) Pull(context.Context, string) error {
	return services.Errorf(services.NotFound, "no registry")
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{"FLIX_IMAGE_PREFIX": "r.example", "FLIX_IMAGE_S3": "mine/s3:1", "FLIX_IMAGE_REDIS": "x"}
	s := images.FromEnv(func(k string) string { return env[k] })
	if s.Prefix != "r.example" || len(s.Overrides) != 1 || s.Overrides[images.S3] != "mine/s3:1" {
		t.Errorf("FromEnv = %+v", s)
	}
	if got := s.Official(images.Kafka); got != "r.example/apache/kafka:4.1.0" {
		t.Errorf("Official = %q", got)
	}
}

func TestParse(t *testing.T) {
	got, err := images.Parse([]string{"s3", "cassandra", "s3"})
	if err != nil || !slices.Equal(got, []images.Component{images.Cassandra, images.S3}) {
		t.Errorf("Parse = %v, %v", got, err)
	}
	if all, err := images.Parse(nil); err != nil || !slices.Equal(all, images.Components()) {
		t.Errorf("Parse of nothing = %v, %v", all, err)
	}
	if _, err := images.Parse([]string{"cassandra", "redis"}); services.KindOf(err) != services.Invalid {
		t.Errorf("Parse of redis: %v", err)
	}
}

func TestList(t *testing.T) {
	s := shelf{here: []string{"flix/kafka:4.1.0", "memcached:1.6.18", "flix/base:java17"}}
	rows, err := images.List(t.Context(), &s, images.Set{Overrides: map[images.Component]string{images.S3: "mine/s3:1"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]images.Row{}
	for _, r := range rows {
		got[string(r.Component)] = r
	}
	for name, want := range map[string]images.Row{
		"cassandra": {Component: images.Cassandra, Reference: "cassandra:5.0.5", Source: images.Official},
		"kafka":     {Component: images.Kafka, Reference: "flix/kafka:4.1.0", Source: images.Built, ID: "sha256:flix/kafka:4.1.0", Present: true},
		"memcached": {Component: images.Memcached, Reference: "memcached:1.6.18", Source: images.Official, ID: "sha256:memcached:1.6.18", Present: true},
		"s3":        {Component: images.S3, Reference: "mine/s3:1", Source: images.Override},
		"":          {Reference: "flix/base:java17", Source: images.Built, ID: "sha256:flix/base:java17", Present: true},
	} {
		if got[name] != want {
			t.Errorf("the row of %q is %+v, want %+v", name, got[name], want)
		}
	}
}
