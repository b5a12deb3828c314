package topology

import (
	"cmp"
	"maps"
	"slices"
)

// Containers says how the containers runtime runs the planet; the embedded
// runtime does not read it.
type Containers struct {
	// Profile is the size of the stores: small, standard or large; empty is
	// small.
	Profile Profile `yaml:"profile,omitempty" json:"profile,omitempty"`
	// Pack says what shares a container: nothing ("instance", or empty), or the
	// services of a zone, and the appliances of a site ("zone"). A store never
	// does.
	Pack Pack `yaml:"pack,omitempty" json:"pack,omitempty"`
	// Network the containers are in: "bridge" (or empty), one of the lab's own, or
	// "host", this machine's, where each has an address of its own in
	// 127.0.0.0/8: they start sooner, and nothing keeps them apart.
	Network Network `yaml:"network,omitempty" json:"network,omitempty"`
	// Registry is put before the name of every image that is not overridden,
	// e.g. "registry.example.org/mirror".
	Registry string `yaml:"registry,omitempty" json:"registry,omitempty"`
	// Images overrides the image of a component, e.g. cassandra: cassandra:5.0.6.
	Images map[string]string `yaml:"images,omitempty" json:"images,omitempty"`
}

// Or is c with what it leaves open as d has it.
func (c Containers) Or(d Containers) Containers {
	c.Profile, c.Pack, c.Network = cmp.Or(c.Profile, d.Profile), cmp.Or(c.Pack, d.Pack), cmp.Or(c.Network, d.Network)
	c.Registry = cmp.Or(c.Registry, d.Registry)
	if c.Images == nil {
		c.Images = maps.Clone(d.Images)
	}
	return c
}

// Profile is a size of the stores.
type Profile string

// The profiles. Small fits three regions in 10 GiB of memory; standard has two
// Cassandra nodes in each datacentre, large three. Every node has a replica of
// everything, and a quorum is asked: large goes on without any one node of a
// region, standard loses nothing and refuses.
const (
	Small    Profile = "small"
	Standard Profile = "standard"
	Large    Profile = "large"
)

// Pack says what shares a container.
type Pack string

// What may share a container.
const (
	PackInstance Pack = "instance"
	PackZone     Pack = "zone"
)

// Network is what containers are connected by.
type Network string

// The networks.
const (
	BridgeNetwork Network = "bridge"
	HostNetwork   Network = "host"
)

// Components are the parts that come as images of their own.
func Components() []string {
	return []string{"cassandra", "ffmpeg", "kafka", "mariadb", "memcached", "opensearch", "s3"}
}

// Sizes of the stores' containers in bytes.
type Sizes struct {
	// Nodes of Cassandra in each datacentre.
	Nodes int
	// Limits of a container's memory, and of the heaps inside.
	Cassandra, CassandraHeap, Kafka, KafkaHeap, OpenSearch, OpenSearchHeap, MariaDB, MariaDBPool, Memcached, MemcachedItems, S3 Size
}

const mib = Size(1 << 20)

// Sizes of the profile.
func (p Profile) Sizes() Sizes {
	s := Sizes{
		Nodes: 1, Cassandra: 900 * mib, CassandraHeap: 320 * mib, Kafka: 420 * mib, KafkaHeap: 160 * mib,
		OpenSearch: 600 * mib, OpenSearchHeap: 224 * mib, MariaDB: 256 * mib, MariaDBPool: 48 * mib,
		Memcached: 64 * mib, MemcachedItems: 32 * mib, S3: 256 * mib,
	}
	switch p {
	case Standard:
		s.Nodes, s.Cassandra, s.CassandraHeap = 2, 1200*mib, 512*mib
		s.MariaDB, s.MariaDBPool, s.Memcached, s.MemcachedItems = 512*mib, 192*mib, 160*mib, 128*mib
	case Large:
		s.Nodes, s.Cassandra, s.CassandraHeap = 3, 2048*mib, 1024*mib
		s.Kafka, s.KafkaHeap, s.OpenSearch, s.OpenSearchHeap = 1024*mib, 512*mib, 1200*mib, 512*mib
		s.MariaDB, s.MariaDBPool, s.Memcached, s.MemcachedItems, s.S3 = 1024*mib, 512*mib, 320*mib, 256*mib, 512*mib
	}
	return s
}

// Total is the sum of the limits in bytes for a region with so many zones.
func (s Sizes) Total(zones int) Size {
	return Size(s.Nodes)*s.Cassandra + s.Kafka + s.OpenSearch + s.MariaDB + s.S3 + Size(zones)*s.Memcached
}

func (c *checker) containers(v Containers) {
	const field = "containers"
	switch v.Profile {
	case "", Small, Standard, Large:
	default:
		c.fail(field+".profile", string(v.Profile), "is not a profile", "write small, standard or large")
	}
	switch v.Pack {
	case "", PackInstance, PackZone:
	default:
		c.fail(field+".pack", string(v.Pack), "is not a way to pack", "write instance or zone")
	}
	switch v.Network {
	case "", BridgeNetwork, HostNetwork:
	default:
		c.fail(field+".network", string(v.Network), "is not a network", "write bridge or host")
	}
	for _, name := range slices.Sorted(maps.Keys(v.Images)) {
		f := field + ".images." + name
		switch {
		case !slices.Contains(Components(), name):
			c.fail(f, v.Images[name], "is not a component", "%s", didYouMean(name, Components()))
		case v.Images[name] == "":
			c.fail(f, "", "names no image", "write e.g. cassandra:5.0.5")
		}
	}
}
