// Package wire is the appliance's HTTP: a server that does one thing, to send
// parts of files, and spends as little as it can on it.
//
// HTTP/1.1 is a loop of its own over the connection. Without TLS the bytes of a
// file go from the page cache to the socket by sendfile(2), the header before
// them with MSG_MORE. On a short path the kernel takes little more than it can send
// at once (TCP_NOTSENT_LOWAT), so that little waits and what is sent is still in
// the processor's cache when it is read; a long one is left to the kernel's
// tuning. With TLS (1.3 only) records are gathered into large writes, and their
// buffers taken only when the socket has room. HTTP/2 is net/http's, behind the
// same Handler.
//
// Requests are read strictly: whatever two readers could understand in two
// ways (two lengths, a bare line feed, a space before a colon, a folded line)
// is answered with 400 and the connection is closed. Memory is bounded: a head
// is at most MaxHead bytes, an idle connection holds no buffer, and every
// state of a connection has a deadline. An answer that cannot be finished as
// it was announced ends its connection: no client ever takes the next answer's
// bytes for this one's.
package wire
