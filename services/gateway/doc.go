// Package gateway is the edge of a region: it ends TLS, passes every request
// through an ordered chain of filters and proxies it to an instance of the API
// its path belongs to, or, while its region is being evacuated, to a gateway
// of another region.
//
// It promises that what the APIs read in X-Flix-* headers was put there by a
// gateway of the lab and never by a client; that a request is tried again only
// where that cannot do its work twice; and that a request crosses from region
// to region at most once. It never lets a client choose an upstream: the path
// picks a route, the route a VIP, the registry the instances, and those must
// lie inside the declared networks.
//
// Filters see an Exchange, not net/http: the HTTP codecs are beneath it
// (codec.go, upgrade.go), the pooled transports behind it (transport.go).
//
// Run-time properties:
//
//	gateway.routes                 JSON array of Route; replaces the table
//	gateway.evacuate               JSON Evacuation: {"share":0..1,"savers":["us-west"]}
//	gateway.drain                  "on": tell clients to connect anew
//	gateway.filter.<name>.disable  "on": skip a filter
//	gateway.origin.timeout         duration of one try; 10 × Timing.RPCTimeout
//	gateway.origin.concurrency     requests at once per VIP; 200
//	gateway.origin.limit           none, vegas, gradient2 or aimd: what adapts that number; gradient2
//	gateway.deadline               duration until the answer begins, all tries; 30 × Timing.RPCTimeout
//	gateway.max_body               bytes of a request's body; 16 MiB
package gateway
