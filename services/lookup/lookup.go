// Package lookup is the client of the registry: it registers an instance,
// renews its lease, keeps a local copy of the registry by full and delta
// fetches, and answers VIP queries from that copy without I/O. Its wire is
// Eureka's REST API (JSON).
package lookup
