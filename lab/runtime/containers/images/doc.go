// Package images provides the images of the components that the containers
// runtime runs: Cassandra, Kafka, memcached, MariaDB, OpenSearch, an S3 server,
// and ffmpeg.
//
// A component's image is an official one, pinned to a version, or one that was
// built here from Debian and Maven packages where no image registry can be
// reached. Both honour the same environment variables, ports and paths, so that
// whoever starts a container need not know which it is. Images travel between
// machines in an archive of this package's own (Save, Load), which is checked
// in full before the engine sees any of it.
//
// The package speaks to the Docker engine of this machine only, removes no
// image that it did not make, and tags none but flix/… and those that were
// pulled.
package images
