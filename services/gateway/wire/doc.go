// Package wire speaks HTTP/1.1 on net.Conn for the gateway: Conn is the
// server's side of a client's connection, Pool the client's side of pooled
// connections to servers.
//
// It promises that a message is read in one way only: what two parsers could
// understand differently (two lengths, a bare CR or LF, a space before a colon,
// a folded line, an odd chunk) is refused, and the connection ends. Bodies are
// streamed both ways at once, in pooled buffers, with trailers and interim
// answers; a byte that came in goes out at once. Nothing is kept of a message
// after its end but what the caller holds.
//
// It never decides what a request means, where it goes or whether it may be
// sent again; that is the gateway's work.
//
// Sources: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 8297 (103).
package wire
