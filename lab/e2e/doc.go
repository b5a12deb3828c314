// Package e2e holds the end-to-end scenarios of a lab: up, play, fill,
// converge, failover, faults, down. They drive the real binary as a user
// would, and read the lab's wires (memcached, Kafka, DNS, HTTP, gRPC) as an
// outside client would; they never reach into package lab.
//
// Scenarios run on both runtimes by the same code, but for what only one of
// them has. FLIX_BIN names a binary to test instead of building one;
// FLIX_REQUIRE_FFMPEG=1 makes a missing ffmpeg a failure, FLIX_REQUIRE_DOCKER=1
// a missing engine, and so on; -short leaves the scenarios out.
package e2e
