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
// lie inside the declared networks, as must the fixed origins that a route may
// name.
//
// A chain of filters (filter.go, chain.go; the built-in ones in filters.go)
// takes a request in, answers it and sends the answer out. Routes are data
// (route.go, table.go, with conditions in the language of expr.go). Both change
// while requests are under way: each goes through what held when it came.
//
// Filters see an Exchange, not net/http: the HTTP codecs are beneath it (wire
// with codec_h1.go and upgrade.go for HTTP/1.1, codec_h2.go on net/http for
// HTTP/2), the pooled transports behind it (transport.go).
//
// A request's trailer passes on. Where HTTP/2 is spoken, by the client or to a
// server, it does only as far as the client announces it (the field Trailer):
// net/http drops what is not, and nobody learns of it. Clients of gRPC send none.
//
// What is refused for too much load, here or in a filter's limit, gets 503 with
// Retry-After and says in X-Flix-Status which limit it met; 429 is for rates. The
// limit of an API adapts: a gateway on a busy machine may find that few dozen
// requests at once are all that keeps answers quick, and 200 are refused in part.
//
// Run-time properties:
//
//	gateway.routes                 JSON Table: {"version":1,"routes":[…]}, or the array alone; replaces the table
//	gateway.evacuate               JSON Evacuation: {"share":0..1,"savers":["us-west"]}
//	gateway.squeeze                JSON Squeeze: a share of a VIP's requests to one instance, for a time
//	gateway.drain                  "on": tell clients to connect anew
//	gateway.filter.<name>.disable      "on": skip a filter
//	gateway.filter.<name>.concurrency  requests in it at once; 0 is any number
//	gateway.filter.<name>.<option>     see the filter's Options, and "flix gateway filters ls -o json"
//	gateway.origin.timeout         duration of one try; 10 × Timing.RPCTimeout
//	gateway.origin.concurrency     requests at once per VIP; 200
//	gateway.origin.limit           none, vegas, gradient2 or aimd: what adapts that number; gradient2
//	gateway.deadline               duration until the answer begins, all tries; 30 × Timing.RPCTimeout
//	gateway.max_body               bytes of a request's body; 16 MiB
package gateway
