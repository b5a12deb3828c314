// Package objects is the lab's object store: a client that speaks S3 (over
// minio-go) and an embedded server that speaks it too, backed by plain files.
//
// The server promises that an object is there whole or not at all, whatever
// kills the process; that every byte received was checked against the
// signatures and checksums its sender gave; and that the count of bytes it
// served survives a restart. It answers no request without a valid
// Signature Version 4. It never holds a lock while a body travels, and it
// never opens a path outside its directory.
//
// Beside a real store (versitygw) stands a Sidecar: it is the store's door, so
// that what the store served is counted as the server counts it.
package objects
