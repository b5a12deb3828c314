// Package player is the client of a lab: one player that signs in, finds a
// title, asks to play it, and streams and checks every byte of it.
//
// It walks the way a real device walks: DNS with its own place in the query,
// TLS 1.3 to the edge with HTTP/2, one connection for finding and another for
// playing, probes of the appliances it was offered, CMAF segments by range
// over HTTPS, adaptation to throughput, another appliance when one fails, and
// reports all along. It speaks only public protocols and the lab's public API;
// it never looks behind the edge, decodes nothing, and starts no process.
//
// The playback clock is computed, not ticked: a Player owns few goroutines,
// and all of them have ended when Play returns.
package player
