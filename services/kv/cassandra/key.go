package cassandra

import (
	"unicode/utf8"

	"github.com/flix-lab/flix/services"
	"github.com/flix-lab/flix/services/kv"
)

const (
	// maxItems and maxWriteBytes bound one write; maxKeyBytes each part of a
	// key. A write is one mutation of a partition, far below the 16 MiB that
	// half a commit log segment takes.
	maxItems      = 1000
	maxWriteBytes = 1 << 20
	maxKeyBytes   = 1 << 10
)

// itemsTable is the table of all namespaces.
const itemsTable = "items"

// quoted is the table's name in statements.
func quoted(keyspace string) string { return `"` + keyspace + `"."` + itemsTable + `"` }

func validPartition(ns kv.Namespace, partition string) error {
	if !names.MatchString(ns.Name) {
		return services.Errorf(services.Invalid, "namespace %.64q: want up to 48 of a-z, 0-9 and _, a letter first", ns.Name)
	}
	if partition == "" || len(partition) > maxKeyBytes || !utf8.ValidString(partition) {
		return services.Errorf(services.Invalid, "partition %.32q: want 1 to %d bytes of UTF-8", partition, maxKeyBytes)
	}
	return nil
}

func validSort(sorts ...string) error {
	for _, s := range sorts {
		if len(s) > maxKeyBytes || !utf8.ValidString(s) {
			return services.Errorf(services.Invalid, "sort key %.32q: want up to %d bytes of UTF-8", s, maxKeyBytes)
		}
	}
	return nil
}
