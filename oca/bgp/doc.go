// Package bgp is a BGP speaker with one neighbour: the router of an appliance's
// site, or the appliance of a router. It speaks RFC 4271 with IPv6 routes (RFC
// 4760), four-octet autonomous system numbers (RFC 6793), the End-of-RIB marker
// (RFC 4724) and the mild handling of malformed updates (RFC 7606); messages are
// read and written by GoBGP's codec. Only external sessions are held, and only
// unicast routes.
//
// It promises that what it has learned is whole: routes of a session that went
// down are kept, as stale, until the neighbour is back and has said everything
// again or until they are too old, so that a restart of either side does not
// empty the table. A session that the neighbour's operator shut down or removed,
// and one over which too much came, has its routes withdrawn at once. It never
// passes on what it has learned, and never touches the routes of the machine that
// it runs on.
package bgp
