package evcache

import "strconv"

// What a container of memcached, the real cache, needs.
const (
	// StorePort is where it listens, inside its container.
	StorePort = 11211
	// minMiB is the least memory that holds one of every class of items up to
	// the largest.
	minMiB = 16
)

// Command returns the arguments of a memcached container: items of maxBytes
// in all (DefaultMaxBytes for 0; rounded up to MiB, 16 at least) and as many
// connections as the embedded server takes. memcached takes no environment.
func Command(maxBytes int64) []string {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	mib := max((maxBytes+1<<20-1)>>20, minMiB)
	return []string{
		"memcached", "-m", strconv.FormatInt(mib, 10), "-c", strconv.Itoa(maxConns), "-I", "1m",
		// A lab has many caches and few cores.
		"-t", "2",
		// One that is full refuses new connections instead of letting them wait:
		// the client then reads another zone.
		"-o", "maxconns_fast",
	}
}
