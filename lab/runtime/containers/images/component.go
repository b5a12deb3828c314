package images

import (
	"slices"
	"strings"

	"github.com/flix-lab/flix/services"
)

// Component is a program that the lab runs from an image.
type Component string

// The components.
const (
	Cassandra  Component = "cassandra"
	Kafka      Component = "kafka"
	Memcached  Component = "memcached"
	MariaDB    Component = "mariadb"
	OpenSearch Component = "opensearch"
	S3         Component = "s3"
	// FFmpeg is no server: the transcoder's image stands on it.
	FFmpeg Component = "ffmpeg"
)

// pin is a component's place in the set.
type pin struct {
	component Component
	// version is what the image must hold. Its last number may be left out:
	// 10.11 stands for every 10.11.x.
	version string
	// official is the public image.
	official string
	// built is the tag of the image made here.
	built string
	// marks are where an image tells its version: names of labels, and of
	// environment variables after a "$".
	marks []string
	// port the server answers on, inside the container; 0 for none.
	port uint16
}

// versionLabel is where images made here tell their version, as many official
// ones do.
const versionLabel = "org.opencontainers.image.version"

// pins is the set. Versions move here, and in the build's recipes, together.
func pins() []pin {
	return []pin{
		{Cassandra, "5.0.5", "cassandra:5.0.5", "flix/cassandra:5.0.5", []string{"$CASSANDRA_VERSION"}, 9042},
		{Kafka, "4.1.0", "apache/kafka:4.1.0", "flix/kafka:4.1.0", nil, 9092},
		{Memcached, "1.6.18", "memcached:1.6.18", "flix/memcached:1.6.18", []string{"$MEMCACHED_VERSION"}, 11211},
		{MariaDB, "10.11", "mariadb:10.11", "flix/mariadb:10.11", []string{"$MARIADB_VERSION"}, 3306},
		{OpenSearch, "2.18.0", "opensearchproject/opensearch:2.18.0", "flix/opensearch:2.18.0", []string{"org.label-schema.version"}, 9200},
		{S3, "1.8.0", "versity/versitygw:v1.8.0", "flix/versitygw:1.8.0", nil, 7070},
		{FFmpeg, "5.1", "jrottenberg/ffmpeg:5.1-ubuntu2204", "flix/ffmpeg:5.1", []string{"$FFMPEG_VERSION"}, 0},
	}
}

func pinOf(c Component) (pin, error) {
	for _, p := range pins() {
		if p.component == c {
			return p, nil
		}
	}
	return pin{}, services.Errorf(services.Invalid, "%q is no component", c).WithRemedy("the components are %s", strings.Join(names(Components()), ", "))
}

// Components lists all components, in the order in which they are shown.
func Components() []Component {
	var out []Component
	for _, p := range pins() {
		out = append(out, p.component)
	}
	return out
}

// Parse turns names into components, each once and in the order of Components;
// none means all. It fails with services.Invalid for a name that is none.
func Parse(list []string) ([]Component, error) {
	if len(list) == 0 {
		return Components(), nil
	}
	for _, n := range list {
		if _, err := pinOf(Component(n)); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(Components(), func(c Component) bool { return !slices.Contains(list, string(c)) }), nil
}

// Built is the tag of the image that Build makes of a component; empty for
// what is none.
func (c Component) Built() string {
	p, _ := pinOf(c)
	return p.built
}

func names(cs []Component) []string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = string(c)
	}
	return out
}
